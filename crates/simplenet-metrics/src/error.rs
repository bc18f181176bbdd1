use crate::MapShape;

/// Why a number is not defined, or what is wrong with the slices it was asked of.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No scores at all.
    #[error("there are no scores to compare with the truth")]
    Empty,

    /// Scores and truth do not belong together.
    #[error("{scores} scores were given with {truths} truth values; each score needs exactly one")]
    LengthMismatch {
        /// Number of scores.
        scores: usize,
        /// Number of truth values.
        truths: usize,
    },

    /// The maps do not fill the shape they are said to have.
    #[error(
        "{pixels} pixels were given for {} maps of {} x {} (height x width)",
        shape.images, shape.height, shape.width
    )]
    ShapeMismatch {
        /// The stated shape.
        shape: MapShape,
        /// Number of pixels in the slice.
        pixels: usize,
    },

    /// More pixels than regions can be numbered for (`u32::MAX`).
    #[error(
        "{pixels} pixels are more than one evaluation can hold ({})\n\nhint: evaluate fewer maps, or smaller ones",
        u32::MAX
    )]
    TooManyPixels {
        /// Number of pixels in the slice.
        pixels: usize,
    },

    /// A score is NaN, so scores cannot be put in order.
    #[error("score {index} of {scores} is NaN\n\nhint: the model's output is not usable; look for diverged training")]
    NotANumber {
        /// Position of the first NaN.
        index: usize,
        /// Number of scores.
        scores: usize,
    },

    /// A score is infinite where thresholds are spaced evenly between the extremes ([`crate::pro_code`] only).
    #[error("score {index} is {value}; thresholds cannot be spaced evenly up to it")]
    Infinite {
        /// Position of the first infinite score.
        index: usize,
        /// That score.
        value: f32,
    },

    /// Only one class is there, so nothing can be told apart.
    #[error(
        "{normal} normal and {anomalous} anomalous truth values: the metric needs at least one of each\n\n\
         hint: evaluate on images with and without defects"
    )]
    OneClass {
        /// Number of normal truth values.
        normal: usize,
        /// Number of anomalous truth values.
        anomalous: usize,
    },

    /// The largest false-positive rate to integrate to is not in (0, 1].
    #[error("the false-positive rate limit is {limit}; it must be above 0 and at most 1 (the usual limit is 0.3)")]
    Limit {
        /// The stated limit.
        limit: f64,
    },

    /// Too few points asked of a curve.
    #[error("{asked} points cannot show a curve; ask for at least 3")]
    CurvePoints {
        /// The number of points asked for.
        asked: usize,
    },

    /// A fractional mask is not a fraction ([`crate::pro_code`] only).
    #[error("mask pixel {index} is {value}; a fractional mask lies between 0 and 1")]
    MaskFraction {
        /// Position of the pixel.
        index: usize,
        /// Its value.
        value: f32,
    },

    /// All scores are equal, so that no two thresholds differ ([`crate::pro_code`] only).
    #[error("all {scores} scores are {value}, so no thresholds lie between them")]
    Constant {
        /// Number of scores.
        scores: usize,
        /// The one score.
        value: f32,
    },

    /// Fewer than two thresholds fall below the false-positive rate limit, or all of them at rate 0, so that there is no
    /// area ([`crate::pro_code`] only).
    #[error("only {kept} thresholds have a false-positive rate below {limit}, the largest rate {largest}: no area")]
    NoArea {
        /// Number of thresholds below the limit.
        kept: usize,
        /// The limit.
        limit: f64,
        /// The largest false-positive rate below the limit; 0 where there is none.
        largest: f64,
    },
}
