//! `plate`: a small assembled circuit board with printed legends.

use super::lettering::{Lettering, Line};
use super::photograph::{Canvas, Light, SIDE, Surface};
use super::plate_defect::Defect;
use super::plate_part::{BOARD_HEIGHT, Package, Part};
use super::random::{Drift, Noise, Random};
use super::shape::{
    Point, along_across, blend, inside, length, path_distance, rounded_box, scale, smoothstep, subtract, tilt,
};
use super::{Category, CategoryKind, Damage};

pub(super) const CATEGORY: Category = Category {
    name: "plate",
    kind: CategoryKind::Object,
    description: "assembled circuit board with printed legends",
    defects: &["missing_part", "shifted_part", "misprint", "scratch"],
    paint,
};

const BOARD_HALF: Point = [97.0, 74.0];
const TABLE: [f32; 3] = [0.36, 0.37, 0.385];
const MASK: [f32; 3] = [0.012, 0.105, 0.052];
const MASK_OVER_COPPER: [f32; 3] = [0.030, 0.175, 0.080];
const INK: [f32; 3] = [0.74, 0.75, 0.72];
const GOLD: [f32; 3] = [0.86, 0.66, 0.30];

fn paint(random: &Random, damage: Option<&Damage>) -> (Canvas, Light) {
    let board = Board::new(&mut random.stream("board"));
    let defect = damage.map(|damage| Defect::new(damage, &board));
    let canvas = match &defect {
        None => Canvas::paint(|p| board.sample(p, None).surface),
        Some(defect) => {
            let altered = defect.assemble(&board);
            Canvas::paint(|p| defect.surface(p, &board, &altered))
        }
    };
    (
        canvas,
        Light::vary([-300.0, -300.0, 520.0], 0.80, 0.30, &mut random.stream("light")),
    )
}

const LEVEL: Point = [1.0, 0.0];
const UPRIGHT: Point = [0.0, 1.0];
const PARTS: [Part; 12] = [
    Part::new(Package::Chip, 4.0, -6.0, LEVEL),
    Part::new(Package::Can, 66.0, -32.0, LEVEL),
    Part::new(Package::Can, 66.0, 8.0, LEVEL),
    Part::new(Package::Resistor, -58.0, -50.0, LEVEL),
    Part::new(Package::Resistor, -34.0, -50.0, LEVEL),
    Part::new(Package::Resistor, -10.0, -50.0, LEVEL),
    Part::new(Package::Capacitor, 14.0, -50.0, LEVEL),
    Part::new(Package::Capacitor, 38.0, -50.0, LEVEL),
    Part::new(Package::Resistor, -54.0, 14.0, UPRIGHT),
    Part::new(Package::Capacitor, -40.0, 14.0, UPRIGHT),
    Part::new(Package::Resistor, 36.0, 38.0, LEVEL),
    Part::new(Package::Resistor, 60.0, 38.0, LEVEL),
];

/// Tracks under the solder mask, from bend to bend.
const TRACKS: [&[Point]; 11] = [
    &[[-50.0, -50.0], [-42.0, -50.0]],
    &[[-26.0, -50.0], [-18.0, -50.0]],
    &[[-66.0, -50.0], [-78.0, -38.0], [-78.0, -20.0]],
    &[[-2.0, -50.0], [6.0, -50.0], [6.0, -36.0], [-14.0, -22.0]],
    &[[22.0, -50.0], [30.0, -50.0], [30.0, -30.0], [12.0, -22.0]],
    &[[46.0, -50.0], [66.0, -50.0], [66.0, -40.0]],
    &[[16.0, 14.0], [16.0, 24.0], [28.0, 38.0]],
    &[[44.0, 38.0], [52.0, 38.0]],
    &[[-78.0, 0.0], [-70.0, 6.0], [-54.0, 6.0]],
    &[[-40.0, 6.0], [-34.0, -2.0], [-30.0, -14.0], [-24.0, -22.0]],
    &[[66.0, 16.0], [76.0, 26.0], [76.0, 38.0], [68.0, 38.0]],
];

/// The furthest that a defect moves a part, in pixels.
const ASKEW: f32 = 7.0;
const VIAS: [Point; 7] = [
    [-42.0, -36.0],
    [30.0, -30.0],
    [-22.0, 30.0],
    [46.0, 22.0],
    [6.0, -36.0],
    [-70.0, 6.0],
    [76.0, 26.0],
];
const MOUNTING_HOLES: [Point; 4] = [[-86.0, -63.0], [86.0, -63.0], [-86.0, 63.0], [86.0, 63.0]];
/// The plug at the left edge: six plated holes.
const PLUG: [Point; 6] = [
    [-84.0, -30.0],
    [-84.0, -20.0],
    [-84.0, -10.0],
    [-84.0, 0.0],
    [-84.0, 10.0],
    [-84.0, 20.0],
];

/// The large line of print, the one that a misprint spoils.
pub(super) const TITLE: Line = Line {
    text: "SIMPLENET-256",
    at: [-42.0, 60.0],
    height: 8.5,
};
const LEGEND: [Line; 10] = [
    Line {
        text: "R1",
        at: [-62.0, -60.5],
        height: 5.4,
    },
    Line {
        text: "R2",
        at: [-38.0, -60.5],
        height: 5.4,
    },
    Line {
        text: "R3",
        at: [-14.0, -60.5],
        height: 5.4,
    },
    Line {
        text: "C1",
        at: [10.0, -60.5],
        height: 5.4,
    },
    Line {
        text: "C2",
        at: [34.0, -60.5],
        height: 5.4,
    },
    Line {
        text: "C5",
        at: [62.0, -54.0],
        height: 5.4,
    },
    Line {
        text: "R4",
        at: [32.0, 47.0],
        height: 5.4,
    },
    Line {
        text: "R5",
        at: [56.0, 47.0],
        height: 5.4,
    },
    Line {
        text: "REV B",
        at: [-72.0, 40.0],
        height: 6.0,
    },
    Line {
        text: "U1",
        at: [-36.0, 26.0],
        height: 5.4,
    },
];
/// Relative to the middle of the chip.
const CHIP_PRINT: [Line; 2] = [
    Line {
        text: "SN40 1536",
        at: [-20.0, -5.0],
        height: 6.0,
    },
    Line {
        text: "23-03 LTU",
        at: [-20.0, 5.0],
        height: 6.0,
    },
];

#[derive(Clone)]
pub(super) struct Board {
    centre: Point,
    axis: Point,
    title: Lettering,
    legend: Lettering,
    chip_print: Lettering,
    pub(super) parts: [Part; 12],
    cloud: Drift,
    surface_noise: Noise,
    grit: Noise,
}

/// A sample of the board and what of it a defect may change.
pub(super) struct Sample {
    pub(super) surface: Surface,
    /// From 0 (none) to 1 (printed): the title's ink.
    pub(super) ink: f32,
    /// From 0 (none) to 1: copper under the mask.
    pub(super) copper: f32,
    /// Which part covers the sample.
    pub(super) part: Option<usize>,
}

impl Board {
    fn new(random: &mut Random) -> Self {
        let middle = 0.5 * SIDE as f32;
        let cloud = random.noise();
        // Placement machines are good but not perfect.
        let parts = PARTS.map(|part| {
            let [c, s] = tilt(random.around(0.03));
            let axis = [part.axis[0] * c - part.axis[1] * s, part.axis[0] * s + part.axis[1] * c];
            let centre = [part.centre[0] + random.around(0.5), part.centre[1] + random.around(0.5)];
            Part { axis, centre, ..part }
        });
        Self {
            centre: [middle + random.around(4.0), middle + random.around(4.0)],
            axis: tilt(random.around(0.035)),
            title: Lettering::new(&[TITLE]),
            legend: Lettering::new(&LEGEND),
            chip_print: Lettering::new(&CHIP_PRINT),
            parts,
            cloud: Drift::new(|x, y| cloud.fractal(x / 60.0, y / 60.0, 3)),
            surface_noise: random.noise(),
            grit: random.noise(),
        }
    }

    /// The point in the board's own coordinates, from its middle.
    pub(super) fn place(&self, p: Point) -> Point {
        along_across(subtract(p, self.centre), self.axis)
    }

    /// What lies at `p`; `title` replaces the ink of the title.
    pub(super) fn sample(&self, p: Point, title: Option<f32>) -> Sample {
        let q = self.place(p);
        let edge = rounded_box(q, BOARD_HALF, 5.0);
        let drilled = MOUNTING_HOLES.iter().any(|hole| length(subtract(q, *hole)) < 4.6);
        if edge > 0.0 || drilled {
            return Sample {
                surface: self.bench(p),
                ink: 0.0,
                copper: 0.0,
                part: None,
            };
        }
        let ink = title.unwrap_or_else(|| self.title.ink(q));
        let (mut surface, copper) = self.bare_board(q, edge, ink);
        let mut cover = None;
        for (index, (part, footprint)) in self.parts.iter().zip(&PARTS).enumerate() {
            // A part that was set askew may reach beyond its footprint.
            let [x, y] = subtract(q, footprint.centre);
            if x.abs().max(y.abs()) > footprint.reach() + ASKEW {
                continue;
            }
            footprint.solder(q, part.present, &mut surface);
            if part.present && part.mount(q, self.grit, &self.chip_print, &mut surface) {
                cover = Some(index);
            }
        }
        Sample {
            surface,
            ink,
            copper,
            part: cover,
        }
    }

    /// The light work top.
    fn bench(&self, p: Point) -> Surface {
        let cloud = self.cloud.at(p);
        let grit = self.grit.at(p[0] / 1.3, p[1] / 1.3);
        Surface::matte(0.08 * grit, scale(TABLE, 1.0 + 0.07 * cloud + 0.04 * grit), 0.6)
    }

    /// Laminate, copper, mask and print, and how much copper lies underneath.
    fn bare_board(&self, q: Point, edge: f32, title: f32) -> (Surface, f32) {
        let weave = self.surface_noise.at(q[0] / 2.2, q[1] / 2.2);

        let track = path_distance(
            q,
            TRACKS
                .iter()
                .flat_map(|track| track.windows(2))
                .map(|ends| [ends[0], ends[1]]),
            2.0,
        );
        // A ground plane fills the lower right; clearances separate it from the tracks.
        let plane = rounded_box(subtract(q, [12.0, 60.0]), [62.0, 9.0], 2.0);
        let copper = inside(track - 1.3, 0.8).max(inside(plane, 0.8));
        let tone = 1.0 + 0.06 * weave + 0.10 * self.cloud.at(q.map(|x| x + 128.0));
        let mut surface = Surface::matte(
            BOARD_HEIGHT + 0.30 * copper + 0.04 * weave - 0.8 * (1.0 + edge / 1.2).max(0.0),
            scale(blend(MASK, MASK_OVER_COPPER, copper), tone),
            0.24,
        );
        if edge > -1.0 {
            surface.albedo = [0.30, 0.29, 0.17];
        }
        let ink = self.legend.ink(q).max(title);
        surface.albedo = blend(surface.albedo, INK, 0.93 * ink);
        surface.height += 0.12 * ink;
        surface.roughness = surface.roughness.map(|roughness| roughness + 0.3 * ink);

        for hole in MOUNTING_HOLES {
            plate_ring(length(subtract(q, hole)), 4.6, 8.0, &mut surface);
        }
        for pad in PLUG {
            plated_hole(length(subtract(q, pad)), 1.7, 3.7, &mut surface);
        }
        for via in VIAS {
            plated_hole(length(subtract(q, via)), 0.8, 2.1, &mut surface);
        }
        (surface, copper)
    }
}

fn plate_ring(distance: f32, inner: f32, outer: f32, surface: &mut Surface) {
    if distance < outer && distance > inner {
        let rim = smoothstep(outer, outer - 1.0, distance);
        *surface = Surface::metal(BOARD_HEIGHT + 0.4 * rim, GOLD, 0.34);
    }
}

fn plated_hole(distance: f32, inner: f32, outer: f32, surface: &mut Surface) {
    if distance <= inner {
        *surface = Surface::matte(BOARD_HEIGHT - 4.0, [0.02, 0.02, 0.02], 0.6);
    }
    plate_ring(distance, inner, outer, surface);
}
