//! `weave`: a twill of blue warp and undyed weft, yarn by yarn.

use super::photograph::{Canvas, Light, SIDE, Surface};
use super::random::{Drift, Noise, Random, floor};
use super::shape::{Point, along_across, scale, smoothstep, subtract, tilt};
use super::weave_defect::{Defect, Fate};
use super::{Category, CategoryKind, Damage};

pub(super) const CATEGORY: Category = Category {
    name: "weave",
    kind: CategoryKind::Texture,
    description: "woven cloth, blue warp and undyed weft",
    defects: &["hole", "stain", "missing_yarn", "foreign_thread"],
    paint,
};

/// Distance between neighbouring yarns in pixels.
pub(super) const PITCH: f32 = 6.4;
const WARP: [f32; 3] = [0.060, 0.105, 0.185];
const WEFT: [f32; 3] = [0.44, 0.395, 0.32];
/// More than the yarns of one system.
const LANES: i32 = 1_000;
const TABLE: [f32; 3] = [0.035, 0.03, 0.03];
const TABLE_HEIGHT: f32 = -7.0;

fn paint(random: &Random, damage: Option<&Damage>) -> (Canvas, Light) {
    let cloth = Cloth::new(&mut random.stream("cloth"));
    let defect = damage.map(|damage| Defect::new(damage, &cloth));
    let canvas = Canvas::paint(|p| cloth.surface(p, defect.as_ref()));
    (
        canvas,
        Light::vary([-520.0, -410.0, 660.0], 0.98, 0.30, &mut random.stream("light")),
    )
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum System {
    Warp,
    Weft,
}

pub(super) struct Cloth {
    axis: Point,
    phase: Point,
    sway: [Drift; 2],
    wander: Noise,
    thickness: Noise,
    fibre: Noise,
    dye: Noise,
}

/// One yarn under a point, seen across and along it.
pub(super) struct Yarn {
    pub(super) system: System,
    /// Which yarn of its system.
    pub(super) index: i32,
    /// Its line of noise.
    pub(super) lane: i32,
    /// Position along the yarn in pitches.
    pub(super) along: f32,
    /// Offset from the yarn's middle in half widths.
    pub(super) offset: f32,
}

impl Cloth {
    fn new(random: &mut Random) -> Self {
        Self {
            axis: tilt(random.around(0.035)),
            phase: [random.between(0.0, 4.0), random.between(0.0, 4.0)],
            sway: [(90.0, 60.0), (60.0, 90.0)].map(|(wide, high)| {
                let noise = random.noise();
                Drift::new(|x, y| 1.6 * noise.fractal(x / wide, y / high, 2))
            }),
            wander: random.noise(),
            thickness: random.noise(),
            fibre: random.noise(),
            dye: random.noise(),
        }
    }

    /// Coordinates in pitches: x counts warp yarns, y counts weft yarns.
    pub(super) fn lattice(&self, p: Point) -> Point {
        let middle = 0.5 * SIDE as f32;
        let [x, y] = along_across(subtract(p, [middle, middle]), self.axis);
        let [sway_x, sway_y] = [self.sway[0].at(p), self.sway[1].at(p)];
        // The offset keeps the yarns' numbers positive.
        [
            (x + sway_x) / PITCH + self.phase[0] + 100.0,
            (y + sway_y) / PITCH + self.phase[1] + 100.0,
        ]
    }

    fn yarn(&self, system: System, [u, v]: Point) -> Yarn {
        let (across, along, lane) = match system {
            System::Warp => (u, v, 0),
            System::Weft => (v, u, LANES),
        };
        let index = floor(across);
        let middle = 0.5 + 0.09 * self.wander.along(along * 0.45, index + lane);
        let slub = 0.13 * self.thickness.along(along * 0.16, index + lane);
        let knots = 0.08 * self.thickness.along(along * 1.1, index + lane + LANES / 2);
        let half_width = (0.485 * (1.0 + slub + knots)).min(0.53);
        Yarn {
            system,
            index,
            lane: index + lane,
            along,
            offset: (across - index as f32 - middle) / half_width,
        }
    }

    /// Height of the yarn's surface, and its colour; `None` beside the yarn, or where it lies below `above`.
    fn yarn_surface(&self, yarn: &Yarn, lift: f32, above: f32) -> Option<(f32, [f32; 3])> {
        let round = 1.0 - yarn.offset * yarn.offset;
        if round <= 0.0 {
            return None;
        }
        let smooth = 2.3 * round.sqrt() + 0.95 * lift;
        // Fibres add less than one pixel.
        if smooth + 1.0 < above {
            return None;
        }
        let base = match yarn.system {
            System::Warp => WARP,
            System::Weft => WEFT,
        };
        let key = yarn.lane as f32 * 3.7;
        // Twisted fibres run obliquely across the yarn.
        let twist = self
            .fibre
            .at(yarn.along * 2.6 + yarn.offset * 1.5, key * 1.7 + yarn.offset * 1.3);
        let fluff = self.fibre.at(yarn.along * 6.0, key + yarn.offset * 3.5);
        let height = smooth + 0.34 * twist + 0.30 * fluff;
        let tone = 1.0
            + 0.26 * (self.dye.cell(yarn.lane, 0) - 0.5)
            + 0.10 * self.dye.along(yarn.along * 0.21, yarn.lane)
            + 0.26 * twist
            + 0.22 * fluff;
        (height > above).then(|| (height, scale(base, tone.max(0.3))))
    }

    fn surface(&self, p: Point, defect: Option<&Defect>) -> Surface {
        let place = self.lattice(p);
        let (mut height, mut albedo, mut damaged) = (TABLE_HEIGHT, TABLE, false);
        for system in [System::Warp, System::Weft] {
            let yarn = self.yarn(system, place);
            let mut lift = lift(system, place);
            if let Some(defect) = defect {
                let fate = defect.fate(p, &yarn);
                damaged |= fate != Fate::Untouched;
                match fate {
                    Fate::Gone => continue,
                    Fate::Slack => lift = 0.25 * lift - 0.9,
                    Fate::Untouched => {}
                }
            }
            if let Some((top, colour)) = self.yarn_surface(&yarn, lift, height) {
                (height, albedo) = (top, colour);
            }
        }
        let mut surface = Surface {
            damaged,
            ..Surface::matte(height, albedo, 0.95)
        };
        if let Some(defect) = defect {
            defect.lay_over(p, &mut surface);
        }
        surface
    }
}

/// 2/2 twill: each yarn passes over two and under two, one step further on the next yarn. From -1 (under) to 1 (over).
fn lift(system: System, [u, v]: Point) -> f32 {
    let warp_over = |i: i32, j: i32| if (i - j).rem_euclid(4) < 2 { 1.0 } else { -1.0 };
    let [i, j] = [floor(u), floor(v)];
    let (position, here, before, after, sign) = match system {
        System::Warp => (
            v - j as f32,
            warp_over(i, j),
            warp_over(i, j - 1),
            warp_over(i, j + 1),
            1.0,
        ),
        System::Weft => (
            u - i as f32,
            warp_over(i, j),
            warp_over(i - 1, j),
            warp_over(i + 1, j),
            -1.0,
        ),
    };
    let neighbour = if position < 0.5 { before } else { after };
    let share = 0.5 * smoothstep(0.0, 0.5, (position - 0.5).abs());
    sign * (here + (neighbour - here) * share)
}
