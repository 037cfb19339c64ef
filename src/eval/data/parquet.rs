//! Parquet files, row by row.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row as Record};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::super::EvalError;
use super::Row;

pub fn each_row(
    file: &Path,
    columns: &[&'static str],
    each: &mut dyn FnMut(Row<'_>) -> Result<(), EvalError>,
) -> Result<(), EvalError> {
    let damaged = |what: String| EvalError::Parquet { file: file.to_owned(), what };
    let opened = File::open(file).map_err(|error| EvalError::io(file, error))?;
    let reader = guarded(|| SerializedFileReader::new(opened)).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema();
    check_columns(file, schema, columns)?;
    let mut records = guarded(|| reader.get_row_iter(None)).map_err(damaged)?;
    for number in 0.. {
        let Some(record) = guarded(|| records.next().transpose()).map_err(damaged)? else { break };
        each(Row { file, place: "row", number, fields: object(&record) })?;
    }
    let n_rows = reader.metadata().file_metadata().num_rows();
    if n_rows < 0 {
        return Err(damaged(format!("it says that it has {n_rows} rows")));
    }
    Ok(())
}

/// What the reader returns; an error for a file that makes it panic, too.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the reader of Parquet gave up".to_owned()),
    }
}

/// Errs where columns are missing; a dot leads into a structure.
fn check_columns(file: &Path, schema: &Type, columns: &[&'static str]) -> Result<(), EvalError> {
    let has = |path: &str| {
        let mut parts = path.split('.');
        let field = |group: &Type, name: &str| {
            let fields = if group.is_group() { group.get_fields() } else { &[] };
            fields.iter().find(|field| field.name() == name).cloned()
        };
        let first = parts.next().and_then(|name| field(schema, name));
        parts.try_fold(first, |group, name| group.map(|group| field(&group, name))).flatten().is_some()
    };
    let missing: Vec<_> = columns.iter().copied().filter(|column| !has(column)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let found = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    Err(EvalError::Columns { file: file.to_owned(), found, missing })
}

fn object(record: &Record) -> Map<String, Value> {
    record.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float(value) => (*value).into(),
        Field::Double(value) => (*value).into(),
        Field::Str(text) => text.clone().into(),
        // Files that do not say that their texts are texts.
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned().into(),
        Field::Group(record) => object(record).into(),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            map.entries().iter().map(|(key, item)| Value::Array(vec![value(key), value(item)])).collect()
        }
        other => other.to_string().into(),
    }
}
