//! Matrix products by NVIDIA's cuBLASLt, which is loaded at run time. CubeCL's own products reach a third of its
//! speed on recent cards at best, after minutes of tuning.
#![expect(unsafe_code, reason = "cuBLASLt is a C library")]

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::{LazyLock, Mutex, PoisonError};

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::cuda::CudaRuntime;
use cubecl::server::{BufferBinding, ServerError};
use cubecl_common::device_handle::DeviceHandle;
use cubecl_environment::backtrace::BackTrace;
use cubecl_environment::stream::StreamId;
use cubecl_server::runtime::Runtime;
use cubecl_server::server::ServerStorage;
use cubecl_server::stream::{ExecuteScope, WriteScoped, failed_writing};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use super::{empty, layout::Matrices};

type Server = <CudaRuntime as Runtime>::Server;

/// NVIDIA's advice for Hopper; less is enough elsewhere.
const WORKSPACE: usize = 32 << 20;

/// Whether the library is there. `COUPLET_CUBLAS=0` in the environment leaves products to CubeCL.
pub(crate) fn is_there() -> bool {
    static IS_THERE: LazyLock<bool> = LazyLock::new(|| {
        // SAFETY: NVIDIA's library has no requirements on whoever loads it.
        std::env::var_os("COUPLET_CUBLAS").is_none_or(|value| value != "0")
            && unsafe { sys::is_culib_present() }
    });
    *IS_THERE
}

/// Whether products of tensors like this one are cuBLASLt's.
pub(super) fn takes(tensor: &CubeTensor) -> bool {
    let service = tensor.client.service_id().service;
    service == std::any::TypeId::of::<Server>() && is_there()
}

/// Bytes of an NVIDIA GPU's memory that no process has taken.
pub(crate) fn free_memory(client: &Client) -> Option<u64> {
    let id = client.service_id();
    if id.service != std::any::TypeId::of::<Server>() {
        return None;
    }
    // The driver answers for the device of the thread that asks.
    let asked = |_: &mut Server| cudarc::driver::result::mem_get_info();
    let found = DeviceHandle::<Server>::new(id.device).submit_blocking(asked);
    found.ok()?.ok().map(|(free, _)| free as u64)
}

/// `scale * lhs rhs + bias + onto` of each pair of matrices.
pub(super) struct Product {
    pub lhs: Matrices,
    pub rhs: Matrices,
    /// `[…, rows of lhs, columns of rhs]`, row after row.
    pub output: Matrices,
    pub scale: f32,
    /// Of the output's columns, in its dtype.
    pub bias: Option<CubeTensor>,
    /// Laid out as the output, in its dtype.
    pub onto: Option<CubeTensor>,
}

/// What an algorithm is chosen for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    device: u16,
    /// Rows of lhs, columns of rhs, what is summed over, and pairs.
    sizes: [usize; 4],
    /// Of lhs and rhs: whether it is column-major, the distance of its rows or columns, and of its matrices.
    layouts: [(bool, usize, usize); 2],
    /// Of the output, which is row-major.
    output: (usize, usize),
    dtypes: [DType; 2],
    has_bias: bool,
    /// Of all addresses, in bytes.
    alignment: u32,
}

struct Plan {
    handle: sys::cublasLtHandle_t,
    operation: sys::cublasLtMatmulDesc_t,
    lhs: sys::cublasLtMatrixLayout_t,
    rhs: sys::cublasLtMatrixLayout_t,
    output: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

// SAFETY: cuBLASLt's handles belong to no thread; the plans' lock keeps two threads from changing one.
unsafe impl Send for Plan {}

static PLANS: LazyLock<Mutex<HashMap<Key, Plan>>> = LazyLock::new(Mutex::default);

fn data_type(dtype: DType) -> sys::cudaDataType {
    match dtype {
        DType::F16 => sys::cudaDataType::CUDA_R_16F,
        DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
        DType::F32 => sys::cudaDataType::CUDA_R_32F,
        other => unreachable!("products of {other:?} are left to CubeCL"),
    }
}

/// Sets an attribute of a description.
/// - set: cuBLASLt's function that takes the value's address and size.
fn with<T: Copy>(
    value: T,
    set: impl FnOnce(*const c_void, usize) -> Result<(), CublasError>,
) -> Result<(), CublasError> {
    set((&raw const value).cast(), size_of::<T>())
}

/// A description of matrices that are column-major to cuBLAS.
fn layout(
    dtype: DType,
    [rows, columns]: [usize; 2],
    distance: usize,
    [pairs, stride]: [usize; 2],
) -> Result<sys::cublasLtMatrixLayout_t, CublasError> {
    use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
    let signed = |value: usize| i64::try_from(value).expect("tensors are below 2^63 values");
    let layout = result::create_matrix_layout(
        data_type(dtype),
        rows as u64,
        columns as u64,
        signed(distance),
    )?;
    let pairs = i32::try_from(pairs)
        .map_err(|_| CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED))?;
    let set = |attribute, value, size| {
        // SAFETY: the layout was made above, and `with` gives the address of a value of that size.
        unsafe { result::set_matrix_layout_attribute(layout, attribute, value, size) }
    };
    with(pairs, |value, size| {
        set(Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, value, size)
    })?;
    with(signed(stride), |value, size| {
        set(
            Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
            value,
            size,
        )
    })?;
    Ok(layout)
}

impl Plan {
    /// cuBLAS is column-major: there the transposed output is the product of the transposed rhs and lhs.
    fn new(key: &Key) -> Result<Self, CublasError> {
        use sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        use sys::cublasLtMatmulPreferenceAttributes_t as Preference;
        let [rows, columns, inner, pairs] = key.sizes;
        let [
            (lhs_is_turned, lhs_distance, lhs_stride),
            (rhs_is_turned, rhs_distance, rhs_stride),
        ] = key.layouts;
        let [dtype, output_dtype] = key.dtypes;
        let turned = |[rows, columns]: [usize; 2], is_turned| {
            if is_turned {
                [columns, rows]
            } else {
                [rows, columns]
            }
        };
        let lhs = turned([inner, rows], lhs_is_turned);
        let lhs = layout(dtype, lhs, lhs_distance, [pairs, lhs_stride])?;
        let rhs = turned([columns, inner], rhs_is_turned);
        let rhs = layout(dtype, rhs, rhs_distance, [pairs, rhs_stride])?;
        let (distance, stride) = key.output;
        let output = layout(output_dtype, [columns, rows], distance, [pairs, stride])?;

        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let operation = result::create_matmul_desc(sums, data_type(DType::F32))?;
        let set = |attribute, value, size| {
            // SAFETY: as in `layout`.
            unsafe { result::set_matmul_desc_attribute(operation, attribute, value, size) }
        };
        for (attribute, is_turned) in [
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSA, rhs_is_turned),
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, lhs_is_turned),
        ] {
            // `CUBLAS_OP_T` or `CUBLAS_OP_N`.
            with(i32::from(is_turned), |value, size| {
                set(attribute, value, size)
            })?;
        }
        if key.has_bias {
            with(CUBLASLT_EPILOGUE_BIAS, |value, size| {
                set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, value, size)
            })?;
        }

        let preference = result::create_matmul_pref()?;
        let set = |attribute, value, size| {
            // SAFETY: as in `layout`.
            unsafe { result::set_matmul_pref_attribute(preference, attribute, value, size) }
        };
        with(WORKSPACE, |value, size| {
            set(
                Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                value,
                size,
            )
        })?;
        for attribute in [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            with(key.alignment, |value, size| set(attribute, value, size))?;
        }
        let library = library(key.device)?;
        // SAFETY: all that is described was made above, and nothing of it was freed.
        let found = unsafe {
            let found = result::get_matmul_algo_heuristic(
                library, operation, rhs, lhs, output, output, preference,
            );
            result::destroy_matmul_pref(preference)?;
            found?
        };
        Ok(Self {
            handle: library,
            operation,
            lhs,
            rhs,
            output,
            algorithm: found.algo,
        })
    }

    fn run(
        &self,
        scale: f32,
        addresses: &Addresses,
        stream: sys::cudaStream_t,
    ) -> Result<(), CublasError> {
        use sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER as BIAS;
        let [lhs, rhs, output, workspace] = addresses.operands;
        if let Some(bias) = addresses.bias {
            with(bias, |value, size| {
                // SAFETY: the description is the plan's own.
                unsafe { result::set_matmul_desc_attribute(self.operation, BIAS, value, size) }
            })?;
        }
        let of_onto = if addresses.onto.is_some() {
            1.0_f32
        } else {
            0.0
        };
        let at = |address: u64| address as usize as *mut c_void;
        // SAFETY: the tensors are as long as the layouts say, and live until the work on the stream that uses them
        // has ended, because CubeCL gives their memory away in the order of that stream.
        unsafe {
            result::matmul(
                self.handle,
                self.operation,
                (&raw const scale).cast(),
                (&raw const of_onto).cast(),
                at(rhs),
                self.rhs,
                at(lhs),
                self.lhs,
                at(addresses.onto.unwrap_or(output)),
                self.output,
                at(output),
                self.output,
                &raw const self.algorithm,
                at(workspace),
                WORKSPACE,
                stream,
            )
        }
    }
}

/// cuBLASLt's handle of a device, made in the context of the calling thread, which is that of the device.
fn library(device: u16) -> Result<sys::cublasLtHandle_t, CublasError> {
    struct Handle(sys::cublasLtHandle_t);
    // SAFETY: handles belong to no thread.
    unsafe impl Send for Handle {}
    static HANDLES: LazyLock<Mutex<HashMap<u16, Handle>>> = LazyLock::new(Mutex::default);
    let mut handles = HANDLES.lock().unwrap_or_else(PoisonError::into_inner);
    match handles.entry(device) {
        Entry::Occupied(found) => Ok(found.get().0),
        Entry::Vacant(place) => Ok(place.insert(Handle(result::create_handle()?)).0),
    }
}

impl Product {
    /// Queues the product behind what was queued before.
    pub fn queue(self) {
        let Self {
            lhs,
            rhs,
            output,
            scale,
            bias,
            onto,
        } = self;
        assert!(!output.is_turned, "an output is written row after row");
        let device = output.tensor.client.service_id().device;
        let workspace = empty(&output.tensor, [WORKSPACE], DType::U8);
        // Memory that this thread has just taken is of its stream.
        let stream = workspace.handle.clone().binding().stream;
        let key = Key {
            device: device.index_id,
            sizes: [lhs.rows, rhs.columns, lhs.columns, lhs.count],
            layouts: [&lhs, &rhs].map(|part| (part.is_turned, part.distance, part.stride)),
            output: (output.distance, output.stride),
            dtypes: [lhs.tensor.dtype, output.tensor.dtype],
            has_bias: bias.is_some(),
            alignment: 0,
        };
        let bindings =
            [lhs.tensor, rhs.tensor, output.tensor, workspace].map(|part| part.handle.binding());
        let [bias, onto] = [bias, onto].map(|given| given.map(|given| given.handle.binding()));
        DeviceHandle::<Server>::new(device).submit(move |server| {
            let written = vec![bindings[2].clone()];
            // Before the output is claimed: what is claimed has no address.
            let given = Given {
                operands: bindings,
                bias,
                onto,
            };
            let addresses = match given.addresses(server, stream) {
                Ok(addresses) => addresses,
                Err(error) => return failed_writing(server, stream, written, error),
            };
            let body = |server: &mut Server| run(server, key, scale, &addresses, &given);
            // What comes of it is told to whoever reads the output.
            let _ = ExecuteScope::over(server, stream, written).execute(body);
        });
    }
}

/// What a product reads and writes.
struct Given {
    /// lhs, rhs, the output and the workspace.
    operands: [BufferBinding; 4],
    bias: Option<BufferBinding>,
    onto: Option<BufferBinding>,
}

/// Where that is, for as long as this lives.
struct Addresses {
    operands: [u64; 4],
    bias: Option<u64>,
    onto: Option<u64>,
    _held: Vec<Box<dyn Any>>,
}

impl Given {
    fn addresses(&self, server: &mut Server, stream: StreamId) -> Result<Addresses, ServerError> {
        let mut held: Vec<Box<dyn Any>> = Vec::new();
        let mut address = |binding: &BufferBinding| {
            let found = server.get_resource(binding.clone(), stream)?;
            let address = found.resource().ptr;
            held.push(Box::new(found));
            Ok::<_, ServerError>(address)
        };
        let mut operands = [0; 4];
        for (operand, binding) in operands.iter_mut().zip(&self.operands) {
            *operand = address(binding)?;
        }
        let bias = self.bias.as_ref().map(&mut address).transpose()?;
        let onto = self.onto.as_ref().map(&mut address).transpose()?;
        Ok(Addresses {
            operands,
            bias,
            onto,
            _held: held,
        })
    }
}

fn run(
    server: &mut Server,
    mut key: Key,
    scale: f32,
    addresses: &Addresses,
    given: &Given,
) -> Result<(), ServerError> {
    let stream = given.operands[3].stream;
    let of_matrices = addresses.operands.iter().chain(&addresses.onto);
    key.alignment = of_matrices.fold(256, |least, address| {
        least.min(1 << address.trailing_zeros().min(8))
    });
    let streams = server.write_streams();
    let all = (given.operands.iter())
        .chain(&given.bias)
        .chain(&given.onto);
    // Held until the product is queued, as it keeps memory of other streams.
    let mut resolved = streams.resolve(stream, all)?;
    let queue = resolved.current().sys.cast();
    let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    let describe = |key: &Key, error: CublasError| ServerError::Generic {
        reason: format!("cuBLASLt: {error} for {key:?}; COUPLET_CUBLAS=0 does without it"),
        backtrace: BackTrace::default(),
    };
    let plan = match plans.entry(key) {
        Entry::Occupied(found) => found.into_mut(),
        Entry::Vacant(place) => {
            let plan = Plan::new(place.key()).map_err(|error| describe(place.key(), error))?;
            place.insert(plan)
        }
    };
    let done = plan.run(scale, addresses, queue);
    drop(resolved);
    done.map_err(|error| ServerError::Generic {
        reason: format!("cuBLASLt: {error}; COUPLET_CUBLAS=0 does without it"),
        backtrace: BackTrace::default(),
    })
}
