//! What a caller chooses.

/// The numbers that a file computes with. Inputs and outputs are f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    Fp32,
    /// Products, convolutions and what is between them in f16; norms, softmax and the residual stream of
    /// transformers in f32.
    Fp16,
    /// Weights of linear layers and of the token embedding in 8 bits. What is multiplied with them is quantized as it
    /// comes, by its own range. Convolutions of ResNets stay f32.
    Int8,
}

impl Precision {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }

    /// What transformers.js expects behind a file's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Fp32 => "",
            Self::Fp16 => "_fp16",
            Self::Int8 => "_quantized",
        }
    }
}

/// The precisions that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnnxOptions {
    pub fp32: bool,
    pub fp16: bool,
    pub int8: bool,
}

impl Default for OnnxOptions {
    fn default() -> Self {
        Self {
            fp32: true,
            fp16: false,
            int8: false,
        }
    }
}

impl OnnxOptions {
    /// The precisions that are set.
    pub fn precisions(self) -> impl Iterator<Item = Precision> {
        [
            (self.fp32, Precision::Fp32),
            (self.fp16, Precision::Fp16),
            (self.int8, Precision::Int8),
        ]
        .into_iter()
        .filter_map(|(is_set, precision)| is_set.then_some(precision))
    }

    /// What the names of the files have before their end.
    pub fn suffixes(self) -> impl Iterator<Item = &'static str> {
        self.precisions().map(Precision::suffix)
    }
}
