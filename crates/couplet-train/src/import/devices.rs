//! The number of devices of a command.

/// How many devices a command runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Devices {
    Known(usize),
    /// The launcher's word for it, such as `$GPUS`.
    Unknown(String),
}

impl Default for Devices {
    fn default() -> Self {
        Self::Known(1)
    }
}
