//! The sizes of a convolution.

#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub stride: usize,
    pub padding: usize,
}

/// All sizes of one convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub batch: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// Of the input: height and width.
    pub from: [usize; 2],
    /// Of the output.
    pub to: [usize; 2],
}

impl Sizes {
    pub fn new(conv: Conv, x: &[usize], weight: &[usize]) -> Self {
        let ([batch, inputs, height, width], [outputs, _, kernel, _]) = (
            <[usize; 4]>::try_from(x).expect("images are of rank 4"),
            <[usize; 4]>::try_from(weight).expect("kernels are of rank 4"),
        );
        assert_eq!(inputs, weight[1], "channels of a convolution");
        let size = |size: usize| (size + 2 * conv.padding - kernel) / conv.stride + 1;
        Self {
            batch,
            inputs,
            outputs,
            kernel,
            stride: conv.stride,
            padding: conv.padding,
            from: [height, width],
            to: [size(height), size(width)],
        }
    }

    pub fn input_pixels(&self) -> usize {
        self.from[0] * self.from[1]
    }

    pub fn output_pixels(&self) -> usize {
        self.to[0] * self.to[1]
    }

    /// Values of one output pixel's patch.
    pub fn patch(&self) -> usize {
        self.inputs * self.kernel * self.kernel
    }

    /// Whether a patch is a pixel, and the columns are the input itself.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }
}
