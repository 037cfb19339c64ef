//! Mixes of tensor types, by llama.cpp's names.

use std::fmt;

use bise_models::gguf::TensorType;

macro_rules! file_types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $default:ident;)*) => {
        /// A mix of tensor types, named and numbered as in llama.cpp (`llama_ftype`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, reason = "the field's own spelling")]
        pub enum FileType {
            $($(#[$doc])* $variant,)*
            /// Every tensor as it is.
            Copy,
        }

        impl FileType {
            /// All of them.
            pub const ALL: &'static [FileType] = &[$(FileType::$variant,)* FileType::Copy];

            /// The name, as in `Q4_K_M`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(FileType::$variant => $name,)*
                    FileType::Copy => "COPY",
                }
            }

            /// The number in `general.file_type`; none where it is to stay what it is.
            pub const fn id(self) -> Option<u32> {
                match self {
                    $(FileType::$variant => Some($id),)*
                    FileType::Copy => None,
                }
            }

            /// The type of a tensor that no rule is about.
            pub const fn base(self) -> Option<TensorType> {
                match self {
                    $(FileType::$variant => Some(TensorType::$default),)*
                    FileType::Copy => None,
                }
            }
        }
    };
}

file_types! {
    /// Singles.
    F32 = 0, "F32", F32;
    /// Halves.
    F16 = 1, "F16", F16;
    /// The upper halves of singles.
    BF16 = 32, "BF16", BF16;
    /// 8.5 bits.
    Q8_0 = 7, "Q8_0", Q8_0;
    /// 4.5 bits, output Q6_K.
    Q4_0 = 2, "Q4_0", Q4_0;
    /// 5 bits, output Q6_K.
    Q4_1 = 3, "Q4_1", Q4_1;
    /// 5.5 bits, output Q6_K.
    Q5_0 = 8, "Q5_0", Q5_0;
    /// 6 bits, output Q6_K.
    Q5_1 = 9, "Q5_1", Q5_1;
    /// Q2_K with values, attention's output and ffn_down in more bits.
    Q2_K = 10, "Q2_K", Q2_K;
    /// Q2_K with fewer exceptions; needs an importance matrix.
    Q2_K_S = 21, "Q2_K_S", Q2_K;
    /// Q3_K, output Q6_K.
    Q3_K_S = 11, "Q3_K_S", Q3_K;
    /// Q3_K with values, attention's output and ffn_down Q4_K or Q5_K.
    Q3_K_M = 12, "Q3_K_M", Q3_K;
    /// Q3_K with values, attention's output and ffn_down Q5_K.
    Q3_K_L = 13, "Q3_K_L", Q3_K;
    /// Q4_K with a few Q5_K, output Q6_K.
    Q4_K_S = 14, "Q4_K_S", Q4_K;
    /// Q4_K with half of the values and of ffn_down Q6_K.
    Q4_K_M = 15, "Q4_K_M", Q4_K;
    /// Q5_K, output Q6_K.
    Q5_K_S = 16, "Q5_K_S", Q5_K;
    /// Q5_K with half of the values and of ffn_down Q6_K.
    Q5_K_M = 17, "Q5_K_M", Q5_K;
    /// 6.56 bits.
    Q6_K = 18, "Q6_K", Q6_K;
    /// 4.5 bits through a table.
    IQ4_NL = 25, "IQ4_NL", IQ4_NL;
    /// 4.25 bits through a table.
    IQ4_XS = 30, "IQ4_XS", IQ4_XS;
}

impl FileType {
    /// The mix of that name, in any case; `Q4_K` stands for `Q4_K_M`, `Q3_K` and `Q5_K` likewise, and a number for its `general.file_type`.
    pub fn from_name(name: &str) -> Option<FileType> {
        let name = match name.to_ascii_uppercase().as_str() {
            short @ ("Q3_K" | "Q4_K" | "Q5_K") => format!("{short}_M"),
            name => name.to_owned(),
        };
        let all = || FileType::ALL.iter().copied();
        let by_number = || {
            let id = name.parse().ok()?;
            all().find(|t| t.id() == Some(id))
        };
        all().find(|t| t.name() == name).or_else(by_number)
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_short_names_are_understood() {
        for &t in FileType::ALL {
            assert_eq!(FileType::from_name(&t.name().to_lowercase()), Some(t));
            assert_eq!(t.id().map_or(Some(t), |id| FileType::from_name(&id.to_string())), Some(t));
        }
        assert_eq!(FileType::from_name("q4_k"), Some(FileType::Q4_K_M));
        assert_eq!(FileType::from_name("15"), Some(FileType::Q4_K_M));
        assert_eq!(FileType::from_name("0"), Some(FileType::F32));
        for name in ["", "Q4", "IQ2_XXS", "-1", "99", "q4_k_m.gguf"] {
            assert_eq!(FileType::from_name(name), None, "{name}");
        }
    }
}
