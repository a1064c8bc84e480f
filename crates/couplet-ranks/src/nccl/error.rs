//! Why NCCL cannot be used.

use crate::lost::Lost;

/// A failure of NCCL or of NVIDIA's driver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NcclError {
    #[error("{library} cannot be loaded; {}", advice(library))]
    NotThere {
        library: String,
        source: libloading::Error,
    },
    #[error(
        "{library} has no {function}: it is not NVIDIA's library, or too old; {}",
        advice(library)
    )]
    NoFunction {
        library: String,
        function: &'static str,
        source: libloading::Error,
    },
    #[error("NCCL {version}: {function}: {words}; NCCL_DEBUG=WARN prints more")]
    Nccl {
        version: String,
        function: &'static str,
        words: String,
    },
    #[error("NVIDIA's driver: {function}: {words} ({status})")]
    Driver {
        function: &'static str,
        status: i32,
        words: String,
    },
    #[error("NCCL was aborted after an earlier error")]
    Aborted,
    #[error("a buffer of {bytes} bytes is too short for {floats} floats")]
    Short { bytes: u64, floats: usize },
    #[error("the tensor's memory on the GPU cannot be used: {0}")]
    Memory(String),
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// What to do where a library is missing.
fn advice(library: &str) -> &'static str {
    if library.contains("libcuda") {
        "install NVIDIA's driver"
    } else {
        "install NCCL 2 (`pip install nvidia-nccl-cu12`, or -cu13 for CUDA 13; NVIDIA's packages for Debian and Red \
         Hat call it libnccl2 and libnccl) and add the folder of libnccl.so.2 to LD_LIBRARY_PATH"
    }
}

/// Why ranks have no NCCL together.
#[derive(Debug, thiserror::Error)]
pub enum NcclStartError {
    /// A rank failed. All ranks get the same words, which name it.
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Lost(#[from] Lost),
}
