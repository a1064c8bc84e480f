//! AdamW's numbers.

/// AdamW's numbers in one step, as the kernels compute with them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Numbers {
    pub beta_1: f32,
    pub new_1: f32,
    pub beta_2: f32,
    pub new_2: f32,
    /// The learning rate over the first moment's bias.
    pub rate: f32,
    /// The inverse root of the second moment's bias.
    pub root: f32,
    pub eps: f32,
    /// What weight decay leaves of a parameter.
    pub kept: f32,
}

#[cfg(feature = "_cube")]
impl Numbers {
    /// To sort by.
    pub(crate) fn to_bits(self) -> [u32; 8] {
        [
            self.beta_1,
            self.new_1,
            self.beta_2,
            self.new_2,
            self.rate,
            self.root,
            self.eps,
            self.kept,
        ]
        .map(f32::to_bits)
    }
}
