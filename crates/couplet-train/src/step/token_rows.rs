//! The rows of the token embedding that a step trains on any rank.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use couplet_data::loader::HostBatch;
use couplet_model::Clip;
use couplet_ranks::{Lost, Pending};

use crate::comm::Comm;

/// Bits of a byte of a set of tokens.
const BITS: usize = 8;

/// The tokens of all ranks, on their way to each.
pub(super) struct PendingTokenRows {
    vocabulary: usize,
    sets: Pending<Vec<u8>>,
}

/// The tokens that occur on any rank, in order. The embedding's gradient is zero in all other rows, which need not
/// travel: often most of a small model's gradients.
pub(super) struct TokenRows(Vec<i32>);

impl PendingTokenRows {
    /// Tells the other ranks which tokens this one has.
    /// - returns `None` if there are no others, or the embedding is not trained.
    pub fn start(model: &Clip, batch: &HostBatch, comm: &Comm) -> Option<Self> {
        let team = comm.team()?;
        let vocabulary = model.trained_vocabulary()?;
        let mut own = vec![0; vocabulary.div_ceil(BITS)];
        for id in batch.tokens(0..batch.len()).0 {
            let id = usize::try_from(id).expect("ids are not negative");
            own[id / BITS] |= 1 << (id % BITS);
        }
        Some(Self {
            vocabulary,
            sets: team.all_gather("the tokens", own),
        })
    }

    /// - returns `None` if there are so many that the whole gradient is to travel.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn wait(self) -> Result<Option<TokenRows>, Lost> {
        let sets = self.sets.wait()?;
        let bytes = self.vocabulary.div_ceil(BITS);
        let occurs = |id: usize| {
            let mut bytes = sets.chunks_exact(bytes).map(|set| set[id / BITS]);
            bytes.any(|byte| byte & (1 << (id % BITS)) != 0)
        };
        let ids = (0..self.vocabulary).filter(|id| occurs(*id));
        let ids = ids.map(|id| i32::try_from(id).expect("ids fit in 32 bits"));
        let ids: Vec<i32> = ids.collect();
        Ok((ids.len() < self.vocabulary / 2).then_some(TokenRows(ids)))
    }
}

impl TokenRows {
    /// Whether these are rows of the parameter.
    pub fn are_of(name: &str) -> bool {
        name == "token_embedding.weight"
    }

    /// - gradient: `[vocabulary, width]`; returns `[tokens, width]`.
    pub fn take(&self, gradient: Tensor<2>) -> Tensor<2> {
        let ids = self.ids(&gradient);
        gradient.select(0, ids)
    }

    /// Replaces the rows, in place if the gradient has no other owner.
    /// - gradient: `[vocabulary, width]`; rows: all values of `[tokens, width]`.
    pub fn put(&self, gradient: Tensor<2>, rows: Tensor<1>) -> Tensor<2> {
        let [_, width] = gradient.dims();
        let (ids, rows) = (self.ids(&rows), rows.reshape([self.0.len(), width]));
        gradient.select_assign(0, ids, rows, IndexingUpdateOp::Assign)
    }

    fn ids<const D: usize>(&self, like: &Tensor<D>) -> Tensor<1, Int> {
        let ids = TensorData::new(self.0.clone(), [self.0.len()]);
        Tensor::from_data(ids, &like.device())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use couplet_model::{Clip, Freeze, FreezeConfig};

    use super::*;
    use crate::comm::threads::on_ranks;
    use crate::step::fixtures::{pairs, spec};

    #[test]
    fn rows_of_all_ranks_are_taken_and_put_back() {
        let device = Device::flex().autodiff();
        let model = Clip::init(&spec(), 0, &device);
        let rows = on_ranks(2, |comm| {
            let own = pairs(comm.rank()..comm.rank() + 1);
            let pending = PendingTokenRows::start(&model, &own, &comm).unwrap();
            pending.wait().unwrap().unwrap()
        });
        // One word each, and padding to a multiple of some tokens.
        let mut expected: Vec<i32> = [pairs(0..1), pairs(1..2)]
            .iter()
            .flat_map(|pairs| pairs.tokens(0..1).0)
            .collect();
        expected.sort_unstable();
        expected.dedup();
        assert!(expected.contains(&300) && expected.contains(&49_407));
        for rows in &rows {
            assert_eq!(rows.0, expected);
        }
        let rows = TokenRows(vec![1, 3]);
        let gradient =
            |all: [f32; 8]| Tensor::<1>::from_floats(all, &Device::flex()).reshape([4, 2]);
        let own = gradient([0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0]);
        let taken = rows.take(own.clone());
        assert_eq!(taken.dims(), [2, 2]);
        let sum = rows.put(own, taken.reshape([4]).mul_scalar(2.0));
        let expected = gradient([0.0, 0.0, 2.0, 4.0, 0.0, 0.0, 6.0, 8.0]);
        assert!(sum.into_data() == expected.into_data());
    }

    #[test]
    fn many_tokens_and_frozen_embeddings_need_no_rows() {
        let device = Device::flex().autodiff();
        let mut spec = spec();
        let freeze = FreezeConfig {
            text: Freeze::All,
            ..FreezeConfig::default()
        };
        let frozen = Clip::init(&spec, 0, &device).freeze(freeze, &spec);
        assert!(PendingTokenRows::start(&frozen, &pairs(0..1), &Comm::alone()).is_none());
        spec.text.vocab_size = 5;
        let model = Clip::init(&spec, 0, &device);
        let found = on_ranks(2, |comm| {
            let few = HostBatch::from_host(&[0; 32 * 32 * 3], vec![1, 2, 4, 0], 4, vec![4]);
            let none = PendingTokenRows::start(&frozen, &few, &comm).is_none();
            let pending = PendingTokenRows::start(&model, &few, &comm).unwrap();
            (none, pending.wait().unwrap().is_none())
        });
        assert_eq!(found, [(true, true); 2]);
    }
}
