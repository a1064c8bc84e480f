//! A stand-in for `cubecl-llvm` 0.11, whose build script downloads LLVM.
//!
//! CubeCL's CUDA and HIP runtimes name its types, but do not run it when their C++
//! back ends are chosen (`cubecl/cuda-cpp`, `cubecl/hip-cpp`), as Couplet does: kernels
//! are compiled by NVRTC or HIPRTC. If it is asked to compile all the same, it says so.

/// LLVM compilation targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    #[default]
    Cpu,
    AmdGpu,
    Nvptx,
}

pub use shared::{AmdGpuModule, NvptxModule, PlironArtifact, PlironCompiler, PlironOptions};

/// NVIDIA's side.
pub mod nvptx {
    /// The PTX version that a driver loads.
    pub mod ptx_version {
        use std::fmt;

        /// A PTX version; this stand-in never emits any.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct PtxVersion(u32);

        impl PtxVersion {
            /// No version: the C++ back end leaves the choice to NVRTC.
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "ptx{}", self.0)
            }
        }
    }
}

/// What all targets share.
pub mod shared {
    use std::ffi::c_char;
    use std::fmt;

    use cubecl_core::ir::amd::GfxArch;
    #[cfg(feature = "nvptx")]
    use cubecl_core::ir::nvidia::SmArch;
    use cubecl_core::prelude::KernelDefinition;
    use cubecl_environment::backtrace::BackTrace;
    use cubecl_environment::bytes::Bytes;
    use cubecl_server::compiler::{CompilationError, Compiler};
    use cubecl_server::kernel::BufferIOAttr;

    use crate::LlvmTarget;
    use crate::nvptx::ptx_version::PtxVersion;

    /// Narrowing a device's features to what LLVM lowers.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;
        use cubecl_core::ir::amd::AmdWmma;

        /// The target whose features are narrowed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            Nvptx,
            AmdGpu { wmma: Option<AmdWmma> },
        }

        /// Leaves the features as they are: nothing is lowered here.
        pub fn restrict_features(_props: &mut DeviceProperties, _target: GpuTarget) {}
    }

    /// Compiles nothing.
    #[derive(Clone, Debug, Default)]
    pub struct PlironCompiler {
        pub target: LlvmTarget,
    }

    /// The options that the runtimes fill in.
    #[derive(Clone, Debug, Default)]
    pub struct PlironOptions {
        pub arch: Option<GfxArch>,
        #[cfg(feature = "nvptx")]
        pub sm_arch: Option<SmArch>,
        pub ptx_version: Option<PtxVersion>,
        pub grid_constants: bool,
    }

    /// A compiled kernel; never made.
    #[derive(Clone)]
    #[non_exhaustive]
    pub enum PlironArtifact {
        AmdGpuCode(AmdGpuModule),
        NvptxCode(NvptxModule),
    }

    impl fmt::Display for PlironArtifact {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(match self {
                Self::AmdGpuCode(module) => &module.ir,
                Self::NvptxCode(module) => &module.ir,
            })
        }
    }

    /// A compiled AMD module; never made.
    #[derive(Clone, Debug)]
    pub struct AmdGpuModule {
        pub code_object: Bytes,
        pub entrypoint: String,
        pub ir: String,
        pub asm: Option<String>,
        pub shared_memory_size: usize,
        pub io: Vec<BufferIOAttr>,
    }

    /// A compiled PTX module; never made.
    #[derive(Clone, Debug)]
    pub struct NvptxModule {
        pub ptx: Vec<c_char>,
        pub entrypoint: String,
        pub ir: String,
        pub shared_memory_size: usize,
        pub io: Vec<BufferIOAttr>,
    }

    impl Compiler for PlironCompiler {
        type Representation = PlironArtifact;
        type CompilationOptions = PlironOptions;

        fn buffer_io(repr: &Self::Representation) -> Option<Vec<BufferIOAttr>> {
            match repr {
                PlironArtifact::AmdGpuCode(module) => Some(module.io.clone()),
                PlironArtifact::NvptxCode(module) => Some(module.io.clone()),
            }
        }

        fn compile(
            &mut self,
            _kernel: KernelDefinition,
            _options: &Self::CompilationOptions,
        ) -> Result<Self::Representation, CompilationError> {
            Err(CompilationError::Validation {
                reason: format!(
                    "this build has no LLVM (asked for {:?}); build with the features \
                     cubecl/cuda-cpp or cubecl/hip-cpp, as Couplet's `cuda` and `rocm` do",
                    self.target
                ),
                backtrace: BackTrace::capture(),
            })
        }

        fn extension(&self) -> &'static str {
            "ll"
        }

        fn lang_tag(&self) -> &'static str {
            "llvm"
        }
    }
}
