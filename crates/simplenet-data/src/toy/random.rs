//! Numbers that look random and are the same on every machine.
//!
//! Everything here is integer arithmetic, or IEEE 754 operations that are exactly rounded (`+ - * /`, `sqrt`).
//! The `sin`, `exp` and `powf` of the standard library are the platform's own and differ in the last bit from one
//! system to the next, which would be enough to change a pixel; the sample set therefore never calls them. Rust does
//! not fuse or reorder floating-point operations on its own, so the compiler adds no difference either.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A counter-based generator: the n-th number depends on the key and on n only.
#[derive(Clone, Debug)]
pub(super) struct Random {
    key: u64,
    counter: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            key: mix(seed.wrapping_add(GOLDEN)),
            counter: 0,
        }
    }

    /// An independent generator for one purpose; does not advance this one.
    pub(super) fn stream(&self, purpose: &str) -> Self {
        let key = purpose
            .bytes()
            .fold(self.key, |key, byte| mix(key ^ u64::from(byte).wrapping_mul(GOLDEN)));
        Self {
            key: mix(key.wrapping_add(GOLDEN)),
            counter: 0,
        }
    }

    /// An independent generator for the `index`-th thing of its kind.
    pub(super) fn nth(&self, index: usize) -> Self {
        Self {
            key: mix(self.key ^ mix((index as u64).wrapping_add(1))),
            counter: 0,
        }
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// Uniform in `low..high`.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.bits() >> 40) as f32 / (1u32 << 24) as f32;
        low + (high - low) * unit
    }

    /// Uniform in `-reach..reach`.
    pub(super) fn around(&mut self, reach: f32) -> f32 {
        self.between(-reach, reach)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        ((self.bits() >> 32) as usize * count) >> 32
    }

    /// A point of the unit circle, by rejection: needs no sine.
    pub(super) fn direction(&mut self) -> [f32; 2] {
        loop {
            let [x, y] = [self.around(1.0), self.around(1.0)];
            let square = x * x + y * y;
            if (0.01..=1.0).contains(&square) {
                let length = square.sqrt();
                return [x / length, y / length];
            }
        }
    }

    /// Approximately standard normal: the sum of four uniforms (Irwin-Hall), ample for sensor noise.
    pub(super) fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|lane| (bits >> (16 * lane)) & 0xFFFF).sum();
        (sum as f32 / 65_536.0 - 2.0) * 1.732_050_8
    }

    pub(super) fn noise(&mut self) -> Noise {
        Noise {
            key: self.bits() as u32,
        }
    }
}

/// Gradient noise (Perlin 2002) over an integer lattice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    key: u32,
}

impl Noise {
    fn hash(self, column: i32, row: i32) -> u32 {
        let mut h = (column as u32).wrapping_mul(0x9E37_79B1) ^ (row as u32).wrapping_mul(0x85EB_CA77) ^ self.key;
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        h ^ (h >> 13)
    }

    /// Uniform in `0..1`, constant over a lattice cell.
    pub(super) fn cell(self, column: i32, row: i32) -> f32 {
        let h = self.hash(column, row).wrapping_mul(0x297A_2D39);
        ((h ^ (h >> 15)) >> 8) as f32 / (1u32 << 24) as f32
    }

    /// Smooth noise, about `-1..1`, zero mean, with features about one unit wide.
    #[inline]
    pub(super) fn at(self, x: f32, y: f32) -> f32 {
        let [column, row] = [floor(x), floor(y)];
        let [fx, fy] = [x - column as f32, y - row as f32];
        let corner = |dx: i32, dy: i32| {
            let h = self.hash(column.wrapping_add(dx), row.wrapping_add(dy)) as i32;
            let gradient = [(h >> 16) as f32, ((h << 16) >> 16) as f32];
            gradient[0] * (fx - dx as f32) + gradient[1] * (fy - dy as f32)
        };
        let [u, v] = [fade(fx), fade(fy)];
        let upper = mix_between(corner(0, 0), corner(1, 0), u);
        let lower = mix_between(corner(0, 1), corner(1, 1), u);
        // Gradients are 16-bit integers.
        const SCALE: f32 = 1.6 / 32_768.0;
        SCALE * mix_between(upper, lower, v)
    }

    /// As [`Noise::at`] along one axis, at a third of its cost; each `lane` is a line of its own.
    #[inline]
    pub(super) fn along(self, x: f32, lane: i32) -> f32 {
        let column = floor(x);
        let fx = x - column as f32;
        let end = |dx: i32| (self.hash(column.wrapping_add(dx), lane) as i32 >> 16) as f32 * (fx - dx as f32);
        const SCALE: f32 = 2.0 / 32_768.0;
        SCALE * mix_between(end(0), end(1), fade(fx))
    }

    /// Sum of `octaves` layers, each twice as fine and half as strong as the one before.
    pub(super) fn fractal(self, x: f32, y: f32, octaves: u32) -> f32 {
        let (mut sum, mut scale, mut weight) = (0.0, 1.0, 0.5);
        for octave in 0..octaves {
            // The shift keeps the lattice points of the octaves, where the noise is zero, from falling together.
            let shift = 17.3 * octave as f32;
            sum += weight * self.at(x * scale + shift, y * scale - shift);
            scale *= 2.0;
            weight *= 0.5;
        }
        sum
    }
}

/// The next integer below, without the library call that `f32::floor` is on processors without SSE 4.1.
#[inline]
pub(super) fn floor(x: f32) -> i32 {
    let towards_zero = x as i32;
    towards_zero - i32::from(towards_zero as f32 > x)
}

fn fade(t: f32) -> f32 {
    t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
}

/// `a` at 0, `b` at 1.
pub(super) fn mix_between(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// A slow variation over the picture: computed every few pixels, interpolated between.
#[derive(Clone, Debug)]
pub(super) struct Drift {
    nodes: Vec<f32>,
}

impl Drift {
    const STEP: f32 = 4.0;
    /// Nodes per side: they reach a step beyond the picture at each end.
    const SIDE: usize = 68;

    /// `field` at a point of the picture, in pixels; its features must be wider than ten pixels.
    pub(super) fn new(field: impl Fn(f32, f32) -> f32) -> Self {
        let place = |index: usize| (index as f32 - 1.0) * Self::STEP;
        let nodes = (0..Self::SIDE * Self::SIDE).map(|i| field(place(i % Self::SIDE), place(i / Self::SIDE)));
        Self { nodes: nodes.collect() }
    }

    /// The value at a point; outside the picture, that of its border.
    #[inline]
    pub(super) fn at(&self, [x, y]: [f32; 2]) -> f32 {
        let last = (Self::SIDE - 1) as f32 - 0.001;
        let [x, y] = [
            (x / Self::STEP + 1.0).clamp(0.0, last),
            (y / Self::STEP + 1.0).clamp(0.0, last),
        ];
        let [column, row] = [x as usize, y as usize];
        let [fx, fy] = [x - column as f32, y - row as f32];
        let upper = row * Self::SIDE + column;
        let [above, below] = [upper, upper + Self::SIDE].map(|i| mix_between(self.nodes[i], self.nodes[i + 1], fx));
        mix_between(above, below, fy)
    }
}
