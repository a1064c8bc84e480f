//! What an NVIDIA GPU needs besides its driver.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl::cuda::install;
use cubecl_environment::persistence::CacheConfig;
use cubecl_environment::records::RecordLevel;
use cudarc::nvrtc::safe::{CompileError, CompileOptions, compile_ptx_with_opts};

/// Has what every kernel of half precision includes.
const SOURCE: &str = "#include <cuda_bf16.h>\nextern \"C\" __global__ void nothing() {}\n";

/// Why kernels cannot be compiled on this machine, and what to install.
pub fn cuda_problem() -> Option<&'static str> {
    static PROBLEM: LazyLock<Option<String>> = LazyLock::new(problem);
    PROBLEM.as_deref()
}

/// Why matrix products are slow on this machine, and what to install.
pub fn cublas_problem() -> Option<&'static str> {
    (!crate::cube::has_cublas()).then_some(
        "libcublasLt cannot be loaded, so matrix products are several times slower: install NVIDIA's library \
         (`pip install nvidia-cublas`, or the package libcublas of NVIDIA's repositories) and add its folder to \
         LD_LIBRARY_PATH",
    )
}

/// Lets CubeCL keep compiled kernels for later processes, unless one of its own files of settings is in the current
/// folder or above it. To be called before a device is used.
/// - returns where they are kept, if they are.
pub fn kernel_cache() -> Option<&'static Path> {
    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let has_settings = std::env::current_dir().is_ok_and(|folder| {
            let files = CubeClRuntimeConfig::file_names().iter();
            let sections = CubeClRuntimeConfig::section_file_names().iter();
            let mut names = files.chain(sections.map(|(file, _)| file));
            names.any(|name| folder.ancestors().any(|above| above.join(name).exists()))
        });
        if !has_settings {
            let mut config = CubeClRuntimeConfig::default().override_from_env();
            config.environment.path = CacheConfig::Global;
            // Of how kernels were built, which nobody reads.
            config.environment.records.level = RecordLevel::Off;
            // CubeCL warns of each kernel that it cannot keep.
            config.compilation.cache = is_writable(&config.environment.path.root());
            // Another part of the program may have chosen already.
            let _ = CubeClRuntimeConfig::try_set(config);
        }
        let config = CubeClRuntimeConfig::get();
        (config.compilation.cache).then(|| config.environment.path.root())
    });
    FOLDER.as_deref()
}

fn is_writable(folder: &Path) -> bool {
    let trial = folder.join(format!(".couplet-{}", std::process::id()));
    fs::create_dir_all(folder).is_ok()
        && fs::write(&trial, []).is_ok()
        && fs::remove_file(&trial).is_ok()
}

#[expect(unsafe_code, reason = "NVIDIA's compiler is a C library")]
fn problem() -> Option<String> {
    // SAFETY: the library has no requirements on whoever loads it.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        let text = "libnvrtc, NVIDIA's compiler of kernels, cannot be loaded: install it (`pip install \
                    nvidia-cuda-nvrtc`, or the package cuda-nvrtc of NVIDIA's repositories) and add its folder to \
                    LD_LIBRARY_PATH";
        return Some(text.to_string());
    }
    let Some(folder) = install::cuda_path() else {
        return Some(headers("CUDA's headers were not found"));
    };
    let include = folder.join("include");
    let shown = |path: PathBuf| path.to_string_lossy().into_owned();
    let options = CompileOptions {
        include_paths: vec![shown(include.clone()), shown(include.join("cccl"))],
        ..CompileOptions::default()
    };
    let log = match compile_ptx_with_opts(SOURCE, options) {
        Ok(_) => return None,
        Err(CompileError::CompileError { log, .. }) => log.to_string_lossy().trim().to_string(),
        Err(other) => return Some(format!("NVIDIA's compiler of kernels fails: {other}")),
    };
    if log.contains("builtins") {
        return Some(format!(
            "NVIDIA's compiler of kernels lacks a part ({log}); it is installed with libnvrtc: add that folder to \
             LD_LIBRARY_PATH"
        ));
    }
    let missing = log.lines().find(|line| line.contains("cannot open"));
    let missing = missing.unwrap_or(&log);
    Some(headers(&format!(
        "{} does not have all of CUDA's headers ({missing})",
        include.display()
    )))
}

fn headers(problem: &str) -> String {
    format!(
        "{problem}: install them (`pip install nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-crt`, or the package \
         cuda-cudart-dev of NVIDIA's repositories) and set CUDA_PATH to the folder that has `include`"
    )
}
