//! AMX tiles for dense convolutions. Everything else runs on the vectors of [`super::avx512_bf16`].
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "a kernel body is unsafe as a whole: its contract is that of `Panel`"
)]

use std::arch::x86_64::*;
use std::mem::{MaybeUninit, transmute};

use half::bf16;

use super::avx512_bf16::{self, Avx512Bf16};
use super::kernels::Kernels;
use super::lanes::Lanes;
use super::pack::Block;
use super::panel::{GROUPS, Panel, PanelKernel, Strip};
use crate::amx::{self, Factors, RIGHT_PIECE, ROWS, SumsAt, TERMS, TallFactors};

pub(super) static KERNELS: Kernels<bf16> = Kernels {
    panel: Some(PanelKernel {
        run: panel,
        terms: TERMS,
        pixels: ROWS,
        vectors: 2,
    }),
    // Tiles wait for memory more than for products, and of memory it would take more.
    winograd: None,
    ..avx512_bf16::KERNELS
};

const LANES: usize = Avx512Bf16::LANES;

/// Vectors and channels of a block.
const VECTORS: usize = 2;
const BLOCK: usize = VECTORS * LANES;

/// Weights of a piece that one vector of channels meets: a tile.
const TILE: usize = TERMS * LANES;

/// Of a strip: for each pixel of each group, one for each channel of the block.
type Sums = AlignedArray<{ GROUPS * ROWS * BLOCK }>;

#[repr(C, align(64))]
struct AlignedArray<const N: usize>([f32; N]);

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn panel(panel: &Panel<'_, bf16>) {
    match (panel.residual.at.is_null(), panel.high < f32::INFINITY) {
        (true, false) => run::<false, false>(panel),
        (true, true) => run::<false, true>(panel),
        (false, false) => run::<true, false>(panel),
        (false, true) => run::<true, true>(panel),
    }
}

/// Block by block, strip by strip.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn run<const RESIDUAL: bool, const CAPPED: bool>(panel: &Panel<'_, bf16>) {
    let mut buffers = [const { MaybeUninit::<Sums>::uninit() }; 2];
    let buffers: [*mut f32; 2] = buffers.each_mut().map(|sums| sums.as_mut_ptr().cast());
    let of_block = panel.pieces.len() * RIGHT_PIECE;
    let mut configured = [0; 2];
    let mut before = Unfinished::<RESIDUAL, CAPPED>::nothing(panel);
    let mut turn = 0;
    for block in panel.blocks {
        let weights = panel.weights[block.weights..].as_ptr();
        // The next block, which follows it.
        let mut ahead = Ahead {
            at: weights.wrapping_add(of_block),
            end: weights.wrapping_add(2 * of_block),
        };
        for strip in panel.region.strips() {
            let rows = [strip.groups[0].pixels, strip.groups[1].pixels];
            if rows != configured {
                amx::configure(rows);
                configured = rows;
            }
            let work = Work {
                panel,
                strip: &strip,
                weights,
                bias: panel.bias[block.first_channel..].as_ptr(),
                sums: buffers[turn],
            };
            let passes = if strip.is_tall() { block.vectors } else { 1 };
            before.spread(passes * panel.pieces.len());
            match (strip.is_tall(), rows[1] > 0, panel.once) {
                (true, _, _) => (0..passes).for_each(|vector| match ahead.is_due() {
                    true => multiply_tall::<true, RESIDUAL, CAPPED>(&work, vector, &mut ahead, &mut before),
                    false => multiply_tall::<false, RESIDUAL, CAPPED>(&work, vector, &mut ahead, &mut before),
                }),
                (_, true, true) => multiply::<2, true, RESIDUAL, CAPPED>(&work, &mut ahead, &mut before),
                (_, true, false) => multiply::<2, false, RESIDUAL, CAPPED>(&work, &mut ahead, &mut before),
                (_, false, _) => multiply::<1, false, RESIDUAL, CAPPED>(&work, &mut ahead, &mut before),
            }
            before.rest();
            before.begin(strip, block, buffers[turn]);
            turn = 1 - turn;
        }
    }
    amx::release();
    before.rest();
}

/// One strip times one block.
struct Work<'a> {
    panel: &'a Panel<'a, bf16>,
    strip: &'a Strip,
    weights: *const bf16,
    bias: *const f32,
    sums: *mut f32,
}

impl Work<'_> {
    /// Where the window of a group's first pixel begins.
    fn input(&self, group: usize) -> *const bf16 {
        let group = self.strip.groups[group];
        let input = &self.panel.input;
        input.at.wrapping_add(input.offset(group.y, group.x))
    }
}

/// While a block is in use the next one is fetched into the L2 cache, until all of it is there.
struct Ahead {
    at: *const bf16,
    end: *const bf16,
}

impl Ahead {
    fn is_due(&self) -> bool {
        self.at < self.end
    }
}

/// Calls `multiply` with all pieces in turn. As long as the strip before is not finished that is one by one, and a few of its
/// pixels are finished in between, so that vectors and tiles are at work side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn for_pieces<const RESIDUAL: bool, const CAPPED: bool>(
    pieces: &[usize],
    before: &mut Unfinished<'_, RESIDUAL, CAPPED>,
    mut multiply: impl FnMut(&[usize]),
) {
    let mut left = pieces;
    while before.left > 0
        && let Some((piece, others)) = left.split_first()
    {
        multiply(std::slice::from_ref(piece));
        before.step();
        left = others;
    }
    if !left.is_empty() {
        multiply(left);
    }
}

/// Sums of `N` groups, one or two, and both vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn multiply<const N: usize, const ONCE: bool, const RESIDUAL: bool, const CAPPED: bool>(
    work: &Work<'_>,
    ahead: &mut Ahead,
    before: &mut Unfinished<'_, RESIDUAL, CAPPED>,
) {
    match ahead.is_due() {
        true => multiply_wide::<N, ONCE, true, RESIDUAL, CAPPED>(work, ahead, before),
        false => multiply_wide::<N, ONCE, false, RESIDUAL, CAPPED>(work, ahead, before),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn multiply_wide<
    const N: usize,
    const ONCE: bool,
    const FETCH: bool,
    const RESIDUAL: bool,
    const CAPPED: bool,
>(
    work: &Work<'_>,
    ahead: &mut Ahead,
    before: &mut Unfinished<'_, RESIDUAL, CAPPED>,
) {
    amx::repeat::<N>(work.bias);
    let left = [0, N - 1].map(|group| work.input(group));
    let (left_pitch, right_pitch) = (work.panel.input.pixel, 2 * LANES);
    let (mut right, mut fetched) = (work.weights, ahead.at);
    for_pieces(work.panel.pieces, before, |pieces| {
        let factors = Factors {
            left,
            left_pitch,
            pieces,
            right: [right, right.wrapping_add(TILE)],
            right_pitch,
        };
        amx::multiply_add::<N, ONCE, FETCH>(&factors, fetched);
        right = right.wrapping_add(pieces.len() * RIGHT_PIECE);
        if FETCH {
            fetched = fetched.wrapping_add(pieces.len() * amx::FETCHED);
        }
    });
    ahead.at = fetched;
    amx::store::<N>(SumsAt {
        at: work.sums,
        pitch: BLOCK,
    });
}

/// Sums of four groups and one vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn multiply_tall<const FETCH: bool, const RESIDUAL: bool, const CAPPED: bool>(
    work: &Work<'_>,
    vector: usize,
    ahead: &mut Ahead,
    before: &mut Unfinished<'_, RESIDUAL, CAPPED>,
) {
    amx::repeat_tall(work.bias.add(vector * LANES));
    let left: [*const bf16; GROUPS] = std::array::from_fn(|group| work.input(group));
    let left_pitch = work.panel.input.pixel;
    let (mut right, mut fetched) = (work.weights.add(vector * TILE), ahead.at);
    for_pieces(work.panel.pieces, before, |pieces| {
        let factors = TallFactors {
            left,
            left_pitch,
            pieces,
            right,
        };
        amx::multiply_add_tall::<FETCH>(&factors, fetched);
        right = right.wrapping_add(pieces.len() * RIGHT_PIECE);
        if FETCH {
            fetched = fetched.wrapping_add(pieces.len() * amx::FETCHED);
        }
    });
    ahead.at = fetched;
    amx::store_tall(SumsAt {
        at: work.sums.add(vector * LANES),
        pitch: BLOCK,
    });
}

/// A strip whose sums are made, and how far it is finished: residual, activation and rounding.
struct Unfinished<'a, const RESIDUAL: bool, const CAPPED: bool> {
    panel: &'a Panel<'a, bf16>,
    strip: Strip,
    first_channel: usize,
    vectors: usize,
    begin: *const f32,
    /// Of the group at hand: which it is, how many of its pixels are left, and where the next one lies.
    group: usize,
    left: usize,
    sums: *const f32,
    output: *mut bf16,
    residual: *const bf16,
    /// Pixels of a step.
    of_each: usize,
}

impl<'a, const RESIDUAL: bool, const CAPPED: bool> Unfinished<'a, RESIDUAL, CAPPED> {
    fn nothing(panel: &'a Panel<'a, bf16>) -> Self {
        Unfinished {
            panel,
            strip: Strip::default(),
            first_channel: 0,
            vectors: 0,
            begin: std::ptr::null(),
            group: 0,
            left: 0,
            sums: std::ptr::null(),
            output: std::ptr::null_mut(),
            residual: std::ptr::null(),
            of_each: 1,
        }
    }

    fn begin(&mut self, strip: Strip, block: &Block, sums: *const f32) {
        (self.strip, self.begin) = (strip, sums);
        (self.first_channel, self.vectors) = (block.first_channel, block.vectors);
        self.enter(0);
    }

    fn enter(&mut self, group: usize) {
        let Panel { output, residual, .. } = self.panel;
        let at = self.strip.groups[group];
        (self.group, self.left) = (group, at.pixels);
        self.sums = self.begin.wrapping_add(group * ROWS * BLOCK);
        self.output = output.at.wrapping_add(output.offset(at.y, at.x) + self.first_channel);
        self.residual = residual
            .at
            .wrapping_add(residual.offset(at.y, at.x) + self.first_channel);
    }

    /// Cuts the work into about `steps` steps.
    fn spread(&mut self, steps: usize) {
        let groups = self.strip.groups.iter().filter(|group| group.pixels > 0).count();
        self.of_each = self.left.div_ceil((steps / groups.max(1)).max(1)).max(1);
    }

    /// What is left.
    unsafe fn rest(&mut self) {
        while self.left > 0 {
            self.step();
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    unsafe fn step(&mut self) {
        let pixels = self.of_each.min(self.left);
        if self.vectors == VECTORS {
            self.finish::<VECTORS>(pixels);
        } else {
            self.finish::<1>(pixels);
        }
        self.left -= pixels;
        if self.left == 0 && self.group + 1 < GROUPS {
            self.enter(self.group + 1);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    unsafe fn finish<const V: usize>(&mut self, pixels: usize) {
        let panel = self.panel;
        let (low, high) = (Avx512Bf16::splat(panel.low), Avx512Bf16::splat(panel.high));
        for _ in 0..pixels {
            let mut values = [low; V];
            for (vector, value) in values.iter_mut().enumerate() {
                let mut sum = Avx512Bf16::load(self.sums.add(vector * LANES));
                if RESIDUAL {
                    sum = Avx512Bf16::add(sum, Avx512Bf16::widen(self.residual.add(vector * LANES)));
                }
                // These return their second operand where either is not a number.
                *value = _mm512_max_ps(low, sum);
                if CAPPED {
                    *value = _mm512_min_ps(high, *value);
                }
            }
            if V == VECTORS {
                let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(values[1], values[0]));
                _mm512_storeu_si512(self.output.cast(), both);
            } else {
                Avx512Bf16::store(self.output, values[0]);
            }
            // The same pixel of the next block lies beside it, and is finished after as many strips as there are.
            let next: *const bf16 = if RESIDUAL { self.residual } else { self.output };
            _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(BLOCK).cast());
            self.output = self.output.wrapping_add(panel.output.pixel);
            self.residual = self.residual.wrapping_add(panel.residual.pixel);
            self.sums = self.sums.wrapping_add(BLOCK);
        }
    }
}
