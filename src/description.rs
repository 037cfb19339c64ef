//! A model file in a few words, for people and for programs that list models.

use bise_models::gguf::GgufFile;

/// A summary of a file, from its metadata and tensor table alone.
#[derive(Clone, Debug)]
pub struct Description {
    /// `general.name`, or the file's name.
    pub name: String,
    /// `general.architecture`.
    pub arch: String,
    /// The quantization, named as in llama.cpp (`Q4_K - Medium`).
    pub file_type: String,
    /// Number of weights.
    pub n_params: u64,
    /// Size of all tensors.
    pub n_bytes: u64,
}

impl Description {
    /// That of a file.
    pub fn of(file: &GgufFile) -> Self {
        let text = |key: &str| file.metadata().str(key).ok().flatten().map(str::to_string);
        let file_name = || {
            let name = std::path::Path::new(file.name()).file_name();
            name.map_or_else(|| file.name().to_string(), |name| name.to_string_lossy().into_owned())
        };
        let file_type = file.metadata().u32("general.file_type").ok().flatten().and_then(file_type_name);
        Self {
            name: text("general.name").unwrap_or_else(file_name),
            arch: text("general.architecture").unwrap_or_else(|| "unknown architecture".into()),
            file_type: file_type.map_or_else(|| main_type(file), str::to_string),
            n_params: file.tensors().map(|t| t.n_elements() as u64).sum(),
            n_bytes: file.tensors().map(|t| t.n_bytes as u64).sum(),
        }
    }

    /// The quantization as it stands in names of files: `Q4_K_M`.
    pub fn quantization(&self) -> String {
        let short = self.file_type.strip_prefix("all ").unwrap_or(&self.file_type);
        match short.split_once(" - ") {
            Some((kind, "Small")) => format!("{kind}_S"),
            Some((kind, "Medium")) if kind != "Q2_K" => format!("{kind}_M"),
            Some((kind, "Large")) => format!("{kind}_L"),
            Some((kind, _)) => kind.to_owned(),
            None => short.to_owned(),
        }
    }

    /// The model type as llama-bench prints it: `llama 7.2B Q4_K - Medium`.
    pub fn model_type(&self) -> String {
        format!("{} {} {}", self.arch, count(self.n_params), self.file_type)
    }
}

/// The tensor type with the most bytes, for files that do not name their quantization.
fn main_type(file: &GgufFile) -> String {
    let mut by_type = std::collections::BTreeMap::<&str, usize>::new();
    for tensor in file.tensors() {
        *by_type.entry(tensor.tensor_type.name()).or_default() += tensor.n_bytes;
    }
    by_type.into_iter().max_by_key(|&(_, bytes)| bytes).map_or("no tensors", |(name, _)| name).to_string()
}

/// The names of `general.file_type` (`llama_ftype` in llama.cpp).
fn file_type_name(id: u32) -> Option<&'static str> {
    Some(match id {
        0 => "all F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K - Medium",
        11 => "Q3_K - Small",
        12 => "Q3_K - Medium",
        13 => "Q3_K - Large",
        14 => "Q4_K - Small",
        15 => "Q4_K - Medium",
        16 => "Q5_K - Small",
        17 => "Q5_K - Medium",
        18 => "Q6_K",
        21 => "Q2_K - Small",
        25 => "IQ4_NL - 4.5 bpw",
        30 => "IQ4_XS - 4.25 bpw",
        32 => "BF16",
        _ => return None,
    })
}

/// Formats a count: `8.1M`, `7.2B`.
pub fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1}K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", n as f64 / 1e6),
        _ => format!("{:.1}B", n as f64 / 1e9),
    }
}

/// Formats a size in powers of ten: `5.2 MB`, `4.37 GB`.
pub fn bytes(n: u64) -> String {
    crate::memory::format_bytes(usize::try_from(n).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizations_are_named_as_in_file_names() {
        let named = |file_type: &str| {
            Description {
                name: String::new(),
                arch: String::new(),
                file_type: file_type.to_owned(),
                n_params: 0,
                n_bytes: 0,
            }
            .quantization()
        };
        let names = [
            "Q4_K - Medium",
            "Q2_K - Medium",
            "Q3_K - Large",
            "Q4_K - Small",
            "IQ4_NL - 4.5 bpw",
            "all F32",
            "Q8_0",
        ];
        assert_eq!(names.map(named), ["Q4_K_M", "Q2_K", "Q3_K_L", "Q4_K_S", "IQ4_NL", "F32", "Q8_0"]);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(5_175_936), "5.2 MB");
        assert_eq!(bytes(4_370_000_000), "4.37 GB");
        assert_eq!(count(8_130_816), "8.1M");
        assert_eq!(count(7_241_732_096), "7.2B");
    }
}
