//! Ops that read images between pixels, ones that choose boxes, and random numbers.

use super::spatial::Sampling;
use crate::ValueId;
use orion_tensor::DType;

/// An image read at computed points. Images are `[N, C, H, W]`, points are (x, y): along the
/// width, along the height.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// `resample`: at given points.
    Points {
        /// `[N, C, H, W]`
        x: ValueId,
        /// `[N, H₂, W₂, 2]`
        coordinates: ValueId,
        /// How points become numbers.
        grid: Grid,
    },
    /// `affine`: at the points that a matrix `a0 a1 a2 b0 b1 b2` makes of the output's own,
    /// `x' = a0 x + a1 y + a2` and `y' = b0 x + b1 y + b2`.
    Affine {
        /// `[N, C, H, W]`
        x: ValueId,
        /// `[N, 6]` or `[1, 6]`
        matrix: ValueId,
        /// Height and width of the output.
        size: [usize; 2],
        /// How points become numbers.
        grid: Grid,
    },
    /// `crop_resize`: boxes, each brought to one size by linear interpolation.
    Crop {
        /// `[B, C, H, W]`
        x: ValueId,
        /// `[N, 4]`, or up to iOS16 `[N, 1, 4, 1, 1]` for every image, or `[N, 1, 5, 1, 1]` with
        /// the image in front.
        boxes: ValueId,
        /// int `[N]`: which image each box is of; without it box `i` is of image `i`.
        box_indices: Option<ValueId>,
        /// Height and width of the output.
        size: [usize; 2],
        /// Whether boxes are from 0 to 1, rather than in pixels.
        normalized: bool,
        /// Multiplies the boxes.
        scale: f64,
        /// What the numbers of a box are.
        form: BoxForm,
        /// Where the points lie in a box.
        sampling: Sampling,
        /// What is outside of the image.
        pad_value: f64,
    },
}

/// How points of an image become numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// The nearest pixel (a half to the even one), rather than linear between four.
    pub nearest: bool,
    /// What is outside of the image.
    pub border: Border,
    /// What coordinates mean.
    pub coordinates: Coordinates,
    /// Whether the ends of the range of normalized coordinates are the middles of the outermost
    /// pixels, rather than their outer edges.
    pub align_corners: bool,
}

/// What is outside of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Border {
    /// One number.
    Constant(f64),
    /// The edge.
    Edge,
    /// The image mirrored without repeating the edge.
    Reflection,
    /// The image mirrored.
    Symmetric,
}

/// What coordinates mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coordinates {
    /// Pixels, from 0 on.
    Pixels,
    /// From -1 to 1.
    MinusOneToOne,
    /// From 0 to 1.
    ZeroToOne,
}

/// What the four numbers of a box are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BoxForm {
    /// `y₀ x₀ y₁ x₁`
    CornersHeightFirst,
    /// `x₀ y₀ x₁ y₁`
    CornersWidthFirst,
    /// Middle and size, `y x h w`.
    CenterHeightFirst,
    /// Middle and size, `x y w h`.
    CenterWidthFirst,
}

/// `non_maximum_suppression`: boxes (middle, width and height) in order of their best score,
/// without those that overlap one that was taken. Outputs: boxes, scores, places (-1 for none)
/// and, with a threshold for scores, how many there are; what is missing is zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct Suppression {
    /// `[N, B, 4]`, or `[N, 4, B]` from iOS17 on.
    pub boxes: ValueId,
    /// `[N, B, K]` for `K` classes, or `[N, K, B]`.
    pub scores: ValueId,
    /// Boxes whose intersection over union is greater suppress each other.
    pub iou_threshold: f64,
    /// Boxes without a score of at least this are left out. Up to iOS16, where boxes stand in
    /// rows; `None` from iOS17 on, where they stand in columns.
    pub score_threshold: Option<f64>,
    /// How many are given.
    pub max_boxes: usize,
    /// Whether only boxes of the same best class suppress each other.
    pub per_class: bool,
}

/// Random numbers. MIL does not say which numbers a seed gives; here the same ones in every run
/// and on every device.
#[derive(Debug, Clone, PartialEq)]
pub struct Random {
    /// Element type of the result.
    pub dtype: DType,
    /// Shape of the result.
    pub shape: Vec<usize>,
    /// What is drawn.
    pub distribution: Distribution,
    /// -1 to -2³¹ stand for none: the numbers are then those of the operation's name.
    pub seed: i32,
    /// The start of the numbers: the seed, or a number made of the operation's name.
    pub start: u64,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// From `low` up to but not `high`.
    Uniform {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// The normal distribution.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        deviation: f64,
    },
    /// 1 with a probability, else 0.
    Bernoulli {
        /// Of 1.
        probability: f64,
    },
    /// Places along the last axis of x.
    Categorical {
        /// `[…, K]`
        x: ValueId,
        /// Whether x holds logarithms, rather than probabilities.
        logits: bool,
    },
}

impl Sample {
    /// The values it reads, in a fixed order.
    pub(super) fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::Points { x, coordinates, .. } => vec![*x, *coordinates],
            Self::Affine { x, matrix, .. } => vec![*x, *matrix],
            Self::Crop { x, boxes, box_indices, .. } => {
                [*x, *boxes].into_iter().chain(*box_indices).collect()
            }
        }
    }
}

impl Border {
    /// The value of MIL's `padding_mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant(_) => "constant",
            Self::Edge => "border",
            Self::Reflection => "reflection",
            Self::Symmetric => "symmetric",
        }
    }
}

impl Coordinates {
    /// Every one.
    pub(crate) const ALL: [Self; 3] = [Self::Pixels, Self::MinusOneToOne, Self::ZeroToOne];

    /// The value of MIL's `coordinates_mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pixels => "unnormalized",
            Self::MinusOneToOne => "normalized_minus_one_to_one",
            Self::ZeroToOne => "normalized_zero_to_one",
        }
    }
}

impl BoxForm {
    /// Every one.
    pub(crate) const ALL: [Self; 4] = [
        Self::CornersHeightFirst,
        Self::CornersWidthFirst,
        Self::CenterHeightFirst,
        Self::CenterWidthFirst,
    ];

    /// The value of MIL's `box_coordinate_mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CornersHeightFirst => "CORNERS_HEIGHT_FIRST",
            Self::CornersWidthFirst => "CORNERS_WIDTH_FIRST",
            Self::CenterHeightFirst => "CENTER_SIZE_HEIGHT_FIRST",
            Self::CenterWidthFirst => "CENTER_SIZE_WIDTH_FIRST",
        }
    }
}

impl Distribution {
    /// MIL's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Uniform { .. } => "random_uniform",
            Self::Normal { .. } => "random_normal",
            Self::Bernoulli { .. } => "random_bernoulli",
            Self::Categorical { .. } => "random_categorical",
        }
    }
}
