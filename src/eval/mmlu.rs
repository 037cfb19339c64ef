//! The subjects of MMLU, and the categories that they are summed up in.

/// A category of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// `humanities`
    Humanities,
    /// `other`
    Other,
    /// `social_sciences`
    SocialSciences,
    /// `stem`: science, technology, engineering, mathematics
    Stem,
}

impl Category {
    /// All, by their names.
    pub const ALL: [Category; 4] =
        [Category::Humanities, Category::Other, Category::SocialSciences, Category::Stem];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Category::Humanities => "humanities",
            Category::Other => "other",
            Category::SocialSciences => "social_sciences",
            Category::Stem => "stem",
        }
    }
}

/// The names of the subjects' folders in the dataset.
pub const SUBJECTS: [(Category, &[&str]); 4] = [
    (
        Category::Humanities,
        &[
            "formal_logic",
            "high_school_european_history",
            "high_school_us_history",
            "high_school_world_history",
            "international_law",
            "jurisprudence",
            "logical_fallacies",
            "moral_disputes",
            "moral_scenarios",
            "philosophy",
            "prehistory",
            "professional_law",
            "world_religions",
        ],
    ),
    (
        Category::Other,
        &[
            "business_ethics",
            "clinical_knowledge",
            "college_medicine",
            "global_facts",
            "human_aging",
            "management",
            "marketing",
            "medical_genetics",
            "miscellaneous",
            "nutrition",
            "professional_accounting",
            "professional_medicine",
            "virology",
        ],
    ),
    (
        Category::SocialSciences,
        &[
            "econometrics",
            "high_school_geography",
            "high_school_government_and_politics",
            "high_school_macroeconomics",
            "high_school_microeconomics",
            "high_school_psychology",
            "human_sexuality",
            "professional_psychology",
            "public_relations",
            "security_studies",
            "sociology",
            "us_foreign_policy",
        ],
    ),
    (
        Category::Stem,
        &[
            "abstract_algebra",
            "anatomy",
            "astronomy",
            "college_biology",
            "college_chemistry",
            "college_computer_science",
            "college_mathematics",
            "college_physics",
            "computer_security",
            "conceptual_physics",
            "electrical_engineering",
            "elementary_mathematics",
            "high_school_biology",
            "high_school_chemistry",
            "high_school_computer_science",
            "high_school_mathematics",
            "high_school_physics",
            "high_school_statistics",
            "machine_learning",
        ],
    ),
];
