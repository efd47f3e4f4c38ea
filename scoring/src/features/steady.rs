//! All signals of a contract at once, in rows in which nothing is special: every value is there and was there the row before,
//! and counters have risen. The numbers are those that [`Input`] gives, bit for bit; other rows are its work.

use vedette_protocol::Transform;

use super::input::Input;
use crate::kernel::lanes::{Body, Isa, Lanes};

#[derive(Clone, Debug)]
pub(super) struct Steady {
    set: Lanes,
    /// `None`: the contract names the stream's columns in their order.
    columns: Option<Box<[usize]>>,
    center: Box<[f64]>,
    scale: Box<[f64]>,
    /// Infinite: not clipped.
    clip: Box<[f64]>,
    /// 1 where the row before is subtracted, else 0.
    relative: Box<[f64]>,
    /// 1 for rates, else 0; empty when there are none.
    rate: Box<[f64]>,
    /// The rates of the last row; as long as `rate`.
    rates: Box<[f64]>,
    last: Box<[f64]>,
    raw: Box<[f64]>,
    last_ms: i64,
    /// Whether the row before left things so that the next one can be taken here.
    ready: bool,
}

impl Steady {
    pub(super) fn new(inputs: &[Input]) -> Self {
        let of = |number: fn(&Input) -> f64| inputs.iter().map(number).collect::<Box<[f64]>>();
        let is = |input: &Input, transform: Transform| f64::from(u8::from(input.signal.transform == transform));
        let rate: Box<[f64]> = inputs.iter().map(|i| is(i, Transform::Rate)).collect();
        let rate = if rate.iter().all(|r| *r == 0.0) { Box::default() } else { rate };
        let in_order = inputs.iter().enumerate().all(|(i, input)| i == input.column);
        Steady {
            set: Lanes::detected(),
            columns: (!in_order).then(|| inputs.iter().map(|i| i.column).collect()),
            center: of(|i| i.signal.center.get()),
            scale: of(|i| i.signal.scale.get()),
            clip: of(|i| i.signal.clip.map_or(f64::INFINITY, |clip| clip.get())),
            relative: inputs.iter().map(|i| 1.0 - is(i, Transform::None)).collect(),
            rates: rate.clone(),
            rate,
            last: vec![0.0; inputs.len()].into(),
            raw: vec![0.0; inputs.len()].into(),
            last_ms: 0,
            ready: false,
        }
    }

    /// Writes the row's features, if this is such a row; it must be whole.
    pub(super) fn take(&mut self, at_ms: i64, row: &[f32], out: &mut [f32]) -> bool {
        if !self.ready {
            return false;
        }
        match &self.columns {
            None => self.raw.iter_mut().zip(row).for_each(|(raw, value)| *raw = f64::from(*value)),
            Some(columns) => {
                let value = |column: &usize| row.get(*column).map_or(f64::NAN, |value| f64::from(*value));
                self.raw.iter_mut().zip(columns).for_each(|(raw, column)| *raw = value(column));
            }
        }
        let seconds = at_ms.saturating_sub(self.last_ms) as f64 / 1000.0;
        if !self.rate.is_empty() {
            let fell = |((rate, raw), last): ((&f64, &f64), &f64)| *rate > 0.0 && raw < last;
            if seconds <= 0.0 || self.rate.iter().zip(&self.raw).zip(&self.last).any(fell) {
                return false;
            }
        }
        let mut rates = std::mem::take(&mut self.rates);
        self.set.run(Scale { of: self, seconds, rates: &mut rates, out });
        self.rates = rates;
        std::mem::swap(&mut self.raw, &mut self.last);
        self.last_ms = at_ms;
        true
    }

    /// The next row is not for here, or may not be: hands over what is known.
    pub(super) fn leave(&mut self, inputs: &mut [Input]) {
        if !std::mem::take(&mut self.ready) {
            return;
        }
        for (input, last) in inputs.iter_mut().zip(&self.last) {
            (input.real, input.before, input.absent) = (Some((*last, self.last_ms)), Some(*last), 0);
        }
        inputs.iter_mut().zip(&self.rates).for_each(|(input, rate)| input.last_rate = *rate);
    }

    /// After a row in which each signal had its value.
    pub(super) fn come(&mut self, at_ms: i64, inputs: &[Input]) {
        let there = inputs.iter().all(|input| input.absent == 0 && input.real.is_some_and(|(_, at)| at == at_ms));
        if there {
            let real = inputs.iter().filter_map(|input| input.real);
            self.last.iter_mut().zip(real).for_each(|(last, (raw, _))| *last = raw);
            self.rates.iter_mut().zip(inputs).for_each(|(rate, input)| *rate = input.last_rate);
            self.last_ms = at_ms;
            self.ready = true;
        }
    }
}

struct Scale<'a> {
    of: &'a Steady,
    seconds: f64,
    rates: &'a mut [f64],
    out: &'a mut [f32],
}

impl Body for Scale<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _isa: I) {
        let Steady { center, scale, clip, relative, rate, last, raw, .. } = self.of;
        let n = self.out.len();
        let (center, scale, clip) = (&center[..n], &scale[..n], &clip[..n]);
        let (relative, last, raw) = (&relative[..n], &last[..n], &raw[..n]);
        let scaled = |i: usize, value: f64| {
            let value = (value - center[i]) / scale[i];
            let value = if value < clip[i] { value } else { clip[i] };
            (if value > -clip[i] { value } else { -clip[i] }) as f32
        };
        if rate.is_empty() {
            for (i, out) in self.out.iter_mut().enumerate() {
                *out = scaled(i, raw[i] - last[i] * relative[i]);
            }
        } else {
            let (rate, rates) = (&rate[..n], &mut self.rates[..n]);
            for (i, out) in self.out.iter_mut().enumerate() {
                let per = if rate[i] > 0.0 { self.seconds } else { 1.0 };
                rates[i] = (raw[i] - last[i] * relative[i]) / per;
                *out = scaled(i, rates[i]);
            }
        }
    }
}
