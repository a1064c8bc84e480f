//! Sums of the columns of tall matrices, in two stages whose order is fixed.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{elem, empty, reshaped, vector_size};

/// Units of a cube: side by side, and rows that they read at once.
const LANES: u32 = 32;
const DEPTH: u32 = 8;
/// Rows that one stage adds.
const FEW: usize = 1024;
/// About how many cubes keep a large GPU busy.
const CUBES: usize = 512;

/// What turns rows of a norm's input into normalised ones: the mean and inverse standard deviation of each.
#[derive(Clone, Copy)]
pub(super) struct Scaled<'a> {
    pub x: &'a CubeTensor,
    pub mean: &'a CubeTensor,
    pub inverse: &'a CubeTensor,
}

/// Adds up what the units of one column hold.
#[cube]
fn sum_of_depth<N: Size>(
    own: Vector<f32, N>,
    shared: &mut Shared<[Vector<f32, N>]>,
) -> Vector<f32, N> {
    sync_cube();
    shared[UNIT_POS as usize] = own;
    let mut half = CUBE_DIM_Y / 2;
    while half > 0 {
        sync_cube();
        if UNIT_POS_Y < half {
            let other = shared[(UNIT_POS + half * CUBE_DIM_X) as usize];
            shared[UNIT_POS as usize] += other;
        }
        half /= 2;
    }
    sync_cube();
    shared[UNIT_POS_X as usize]
}

#[cube(launch)]
fn columns<G: Float, O: Float, N: Size>(
    values: &[Vector<G, N>],
    output: &mut [Vector<O, N>],
    rows: usize,
    rows_of_slice: usize,
    #[comptime] vectors: usize,
    #[define(G, O)] _dtypes: [ElemType; 2],
) {
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(comptime!((LANES * DEPTH) as usize));
    let column = ABSOLUTE_POS_X as usize;
    let slice = CUBE_POS_Y as usize;
    let first = slice * rows_of_slice + UNIT_POS_Y as usize;
    let end = min((slice + 1) * rows_of_slice, rows);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if column < vectors {
        for row in range_stepped(first, end, CUBE_DIM_Y as usize) {
            sum += Vector::cast_from(values[row * vectors + column]);
        }
    }
    let sum = sum_of_depth(sum, &mut shared);
    if column < vectors && UNIT_POS_Y == 0 {
        output[slice * vectors + column] = Vector::cast_from(sum);
    }
}

#[cube(launch)]
fn scaled_columns<G: Float, X: Float, N: Size>(
    values: &[Vector<G, N>],
    x: &[Vector<X, N>],
    mean: &[f32],
    inverse: &[f32],
    output: &mut [Vector<f32, N>],
    rows: usize,
    rows_of_slice: usize,
    #[comptime] vectors: usize,
    #[define(G, X)] _dtypes: [ElemType; 2],
) {
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(comptime!((LANES * DEPTH) as usize));
    let column = ABSOLUTE_POS_X as usize;
    let slice = CUBE_POS_Y as usize;
    let first = slice * rows_of_slice + UNIT_POS_Y as usize;
    let end = min((slice + 1) * rows_of_slice, rows);
    let mut along = Vector::<f32, N>::new(0.0f32);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if column < vectors {
        for row in range_stepped(first, end, CUBE_DIM_Y as usize) {
            let value = Vector::<f32, N>::cast_from(values[row * vectors + column]);
            let centered =
                Vector::<f32, N>::cast_from(x[row * vectors + column]) - Vector::new(mean[row]);
            along += value * centered * Vector::new(inverse[row]);
            sum += value;
        }
    }
    let along = sum_of_depth(along, &mut shared);
    let sum = sum_of_depth(sum, &mut shared);
    if column < vectors && UNIT_POS_Y == 0 {
        output[2 * slice * vectors + column] = along;
        output[(2 * slice + 1) * vectors + column] = sum;
    }
}

/// How a matrix is cut.
struct Plan {
    rows: usize,
    slices: usize,
    vector: usize,
    vectors: usize,
}

impl Plan {
    /// - values: rows of `width` values; dtypes: of what is read.
    fn new(values: &CubeTensor, dtypes: &[DType], width: usize) -> Self {
        let rows = values.meta.num_elements() / width;
        let vector = vector_size(&values.client, dtypes, width);
        let vectors = width / vector;
        let wide = vectors.div_ceil(LANES as usize);
        // Few rows are added sooner than a second stage begins.
        let most = if rows <= FEW {
            1
        } else {
            rows.div_ceil(4 * DEPTH as usize)
        };
        let slices = (CUBES / wide).clamp(1, most);
        Self {
            rows,
            slices,
            vector,
            vectors,
        }
    }

    fn rows_of_slice(&self) -> usize {
        self.rows.div_ceil(self.slices).max(1)
    }

    fn cube() -> CubeDim {
        CubeDim::new_2d(LANES, DEPTH)
    }

    fn grid(&self) -> CubeCount {
        let wide = |count: usize| u32::try_from(count).expect("a grid's sides are below 2^32");
        CubeCount::new_2d(
            wide(self.vectors.div_ceil(LANES as usize)),
            wide(self.slices),
        )
    }
}

fn stage(values: &CubeTensor, plan: &Plan, dtype: DType) -> CubeTensor {
    let output = empty(values, [plan.slices, plan.vectors * plan.vector], dtype);
    columns::launch(
        &values.client,
        plan.grid(),
        Plan::cube(),
        plan.vector,
        values.clone().into_buffer_arg(),
        output.clone().into_buffer_arg(),
        plan.rows,
        plan.rows_of_slice(),
        plan.vectors,
        [elem(values.dtype), elem(dtype)],
    );
    output
}

/// The sum of all rows of `width` values, `[width]`, in `dtype`.
/// - values: contiguous.
pub(crate) fn sum_of_rows(values: &CubeTensor, width: usize, dtype: DType) -> CubeTensor {
    let plan = Plan::new(values, &[values.dtype], width);
    let sum = match plan.slices {
        1 => stage(values, &plan, dtype),
        _ => whole(&stage(values, &plan, DType::F32), width, dtype),
    };
    reshaped(&sum, [width])
}

/// The second stage.
fn whole(partial: &CubeTensor, width: usize, dtype: DType) -> CubeTensor {
    let plan = Plan::new(partial, &[partial.dtype], width);
    stage(partial, &Plan { slices: 1, ..plan }, dtype)
}

/// The sums over rows of `values` times the normalised rows, and of `values`, in f32: `[2, width]`.
pub(super) fn sums_of_scaled(values: &CubeTensor, width: usize, norm: Scaled) -> CubeTensor {
    let plan = Plan::new(values, &[values.dtype, norm.x.dtype], width);
    let parts = empty(values, [plan.slices, 2 * width], DType::F32);
    scaled_columns::launch(
        &values.client,
        plan.grid(),
        Plan::cube(),
        plan.vector,
        values.clone().into_buffer_arg(),
        norm.x.clone().into_buffer_arg(),
        norm.mean.clone().into_buffer_arg(),
        norm.inverse.clone().into_buffer_arg(),
        parts.clone().into_buffer_arg(),
        plan.rows,
        plan.rows_of_slice(),
        plan.vectors,
        [elem(values.dtype), elem(norm.x.dtype)],
    );
    match plan.slices {
        1 => parts,
        _ => whole(&parts, 2 * width, DType::F32),
    }
}
