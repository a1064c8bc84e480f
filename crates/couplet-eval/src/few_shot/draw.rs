//! The draws of NumPy's `default_rng`: a seed of ours draws the images that big_vision draws with it.
//!
//! Source: NumPy's `SeedSequence`, `PCG64` and `Generator.permutation`.

/// The words of a seed's entropy pool.
const POOL: usize = 4;
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

/// For each class, its images in the order in which they are taken.
/// - labels: the classes of the training images.
/// - returns rows of `labels`; the first `k` of a class are its `k` shots.
pub(super) fn shuffled_by_class(labels: &[usize], classes: usize, seed: u32) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); classes];
    for (row, label) in labels.iter().enumerate() {
        rows[*label].push(row);
    }
    // One generator for all classes, in their order.
    let mut random = Pcg64::new(seed);
    for rows in &mut rows {
        random.shuffle(rows);
    }
    rows
}

/// PCG XSL RR 128/64, of which numbers of 32 bits are the halves, the lower one first.
struct Pcg64 {
    state: u128,
    increment: u128,
    /// The upper half of the last number.
    rest: Option<u32>,
}

impl Pcg64 {
    fn new(seed: u32) -> Self {
        let words = seed_words(seed);
        let wide = |at: usize| u128::from(words[at]) | (u128::from(words[at + 1]) << 32);
        let start = (wide(0) << 64) | wide(2);
        let increment = (((wide(4) << 64) | wide(6)) << 1) | 1;
        let mut random = Self {
            state: 0,
            increment,
            rest: None,
        };
        random.step();
        random.state = random.state.wrapping_add(start);
        random.step();
        random
    }

    fn step(&mut self) {
        let product = self.state.wrapping_mul(MULTIPLIER);
        self.state = product.wrapping_add(self.increment);
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the halves of a wider number"
    )]
    fn next_u32(&mut self) -> u32 {
        if let Some(rest) = self.rest.take() {
            return rest;
        }
        self.step();
        let mixed = ((self.state >> 64) as u64) ^ (self.state as u64);
        let number = mixed.rotate_right((self.state >> 122) as u32);
        self.rest = Some((number >> 32) as u32);
        number as u32
    }

    /// A number from 0 to `most`.
    fn up_to(&mut self, most: u32) -> u32 {
        if most == 0 {
            return 0;
        }
        let mask = u32::MAX >> most.leading_zeros();
        loop {
            let number = self.next_u32() & mask;
            if number <= most {
                return number;
            }
        }
    }

    fn shuffle(&mut self, rows: &mut [usize]) {
        for at in (1..rows.len()).rev() {
            let most = u32::try_from(at).expect("images are far below 2^32");
            rows.swap(at, self.up_to(most) as usize);
        }
    }
}

/// The first eight words that a seed of one word generates.
fn seed_words(seed: u32) -> [u32; 2 * POOL] {
    let mut constant: u32 = 0x43b0_d7e5;
    let mut hash = |value: u32| {
        let value = value ^ constant;
        constant = constant.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(constant);
        value ^ (value >> 16)
    };
    let mut pool = [seed, 0, 0, 0].map(&mut hash);
    for from in 0..POOL {
        for to in (0..POOL).filter(|to| *to != from) {
            let mixed = (pool[to].wrapping_mul(0xca01_f9dd))
                .wrapping_sub(hash(pool[from]).wrapping_mul(0x4973_f715));
            pool[to] = mixed ^ (mixed >> 16);
        }
    }
    let mut constant: u32 = 0x8b51_f9dd;
    std::array::from_fn(|at| {
        let value = pool[at % POOL] ^ constant;
        constant = constant.wrapping_mul(0x58f3_8ded);
        let value = value.wrapping_mul(constant);
        value ^ (value >> 16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.SeedSequence(0).generate_state(8)` and `default_rng(0).bit_generator.random_raw(3)`.
    #[test]
    fn words_and_numbers_are_those_of_numpy() {
        let wanted = [
            2_968_811_710,
            3_677_149_159,
            745_650_761,
            2_884_920_346,
            2_642_120_001,
            549_907_821,
            574_372_308,
            742_431_198,
        ];
        assert_eq!(seed_words(0), wanted);
        let mut random = Pcg64::new(0);
        for wanted in [
            11_749_869_230_777_074_271,
            4_976_686_463_289_251_617,
            755_828_109_848_996_024,
        ] {
            let (low, high) = (u64::from(random.next_u32()), u64::from(random.next_u32()));
            assert_eq!((high << 32) | low, wanted);
        }
    }

    /// `rng = numpy.random.default_rng(5)`, then `rng.permutation` of each class's rows.
    #[test]
    fn images_are_drawn_as_by_numpy() {
        let sizes = [3, 0, 7, 1, 4];
        let labels: Vec<usize> = (sizes.iter().enumerate())
            .flat_map(|(class, size)| std::iter::repeat_n(class, *size))
            .collect();
        let found = shuffled_by_class(&labels, sizes.len(), 5);
        let wanted: [&[usize]; 5] = [
            &[1, 2, 0],
            &[],
            &[4, 7, 5, 6, 3, 9, 8],
            &[10],
            &[11, 14, 13, 12],
        ];
        assert_eq!(found, wanted);
    }
}
