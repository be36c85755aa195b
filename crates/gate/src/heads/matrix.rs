//! Dense matrices of `f32` and the few products that fitting needs. Row-major; no meaning, no text.

/// `rows` × `columns` numbers, row by row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matrix {
    pub(crate) columns: usize,
    pub(crate) values: Vec<f32>,
}

impl Matrix {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        Self { columns, values: vec![0.0; rows * columns] }
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.columns..(row + 1) * self.columns]
    }

    pub(crate) fn transposed(&self) -> Self {
        let mut other = Self::zeros(self.columns, self.rows());
        let rows = self.rows();
        for (at, row) in self.values.chunks(self.columns.max(1)).enumerate() {
            for (column, value) in row.iter().enumerate() {
                other.values[column * rows + at] = *value;
            }
        }
        other
    }
}

/// A factor of a product: numbers in rows of `columns`, read as they stand or on their side.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    turned: bool,
}

impl<'a> Factor<'a> {
    /// `values` in rows of `columns`; an incomplete last row does not count.
    pub(crate) fn new(values: &'a [f32], columns: usize) -> Self {
        Self { values, rows: values.len().checked_div(columns).unwrap_or(0), columns, turned: false }
    }

    pub(crate) fn turned(self) -> Self {
        Self { turned: !self.turned, ..self }
    }

    fn shape(self) -> (usize, usize) {
        if self.turned { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    fn strides(self) -> (isize, isize) {
        let columns = self.columns.cast_signed();
        if self.turned { (1, columns) } else { (columns, 1) }
    }
}

/// Adds `a · b` to `keep` times what `to` holds, in rows as wide as `b`.
///
/// Panics when the shapes do not fit: both come from one corpus, so that is a mistake in this crate.
pub(crate) fn product(a: Factor<'_>, b: Factor<'_>, keep: f32, to: &mut [f32]) {
    let ((rows, inner), (other, columns)) = (a.shape(), b.shape());
    assert!(inner == other && to.len() == rows * columns, "{rows}×{inner} · {other}×{columns} into {}", to.len());
    if rows == 0 || columns == 0 {
        return;
    }
    let ((a_down, a_along), (b_down, b_along)) = (a.strides(), b.strides());
    #[expect(unsafe_code, reason = "the kernel takes pointers; its shapes are checked against the slices just above")]
    // SAFETY: `Factor::new` holds `rows * columns <= values.len()`, so every element that the strides reach lies in its
    // slice; `to` has exactly `rows * columns` elements and, borrowed mutably, overlaps neither factor.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            inner,
            columns,
            1.0,
            a.values.as_ptr(),
            a_down,
            a_along,
            b.values.as_ptr(),
            b_down,
            b_along,
            keep,
            to.as_mut_ptr(),
            columns.cast_signed(),
            1,
        );
    }
}

/// Solves `a · x = b` for every column of `b` at once, `a` symmetric and positive definite (Cholesky, in `f64`).
/// `None` when it is not.
#[derive(Debug)]
pub(crate) struct Cholesky {
    size: usize,
    /// The lower triangle, row by row, full rows.
    lower: Vec<f64>,
}

impl Cholesky {
    pub(crate) fn new(size: usize, values: impl Fn(usize, usize) -> f64) -> Option<Self> {
        let mut lower = vec![0.0; size * size];
        for row in 0..size {
            let (above, current) = lower.split_at_mut(row * size);
            for column in 0..=row {
                let other = if column == row { &current[..column] } else { &above[column * size..][..column] };
                let sum: f64 = current[..column].iter().zip(other).map(|(x, y)| x * y).sum();
                let rest = values(row, column) - sum;
                current[column] = if column < row {
                    rest / above[column * size + column]
                } else if rest > 0.0 {
                    rest.sqrt()
                } else {
                    return None;
                };
            }
        }
        Some(Self { size, lower })
    }

    /// Replaces `b`, `size` rows of `columns` numbers, by the solution.
    pub(crate) fn solve(&self, b: &mut [f32], columns: usize) {
        let mut solution: Vec<f64> = b.iter().map(|&value| f64::from(value)).collect();
        for row in 0..self.size {
            let (above, rest) = solution.split_at_mut(row * columns);
            for (column, factor) in self.lower[row * self.size..][..row].iter().enumerate() {
                subtract(&mut rest[..columns], *factor, &above[column * columns..][..columns]);
            }
            for value in &mut rest[..columns] {
                *value /= self.lower[row * self.size + row];
            }
        }
        for row in (0..self.size).rev() {
            let (above, below) = solution.split_at_mut((row + 1) * columns);
            let current = &mut above[row * columns..];
            for (at, other) in below.chunks(columns.max(1)).enumerate() {
                subtract(current, self.lower[(row + 1 + at) * self.size + row], other);
            }
            for value in current {
                *value /= self.lower[row * self.size + row];
            }
        }
        for (value, solved) in b.iter_mut().zip(solution) {
            *value = solved as f32;
        }
    }
}

fn subtract(from: &mut [f64], factor: f64, values: &[f64]) {
    for (value, other) in from.iter_mut().zip(values) {
        *value -= factor * other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_the_sum_of_products() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 2.0, 1.0, 0.0, 3.0]);
        let mut to = vec![100.0; 4];
        product(Factor::new(&a, 3), Factor::new(&b, 2), 0.0, &mut to);
        assert_eq!(to, [5.0, 11.0, 14.0, 23.0]);
        product(Factor::new(&a, 3), Factor::new(&b, 3).turned(), 1.0, &mut to);
        assert_eq!(to, [5.0 + 7.0, 11.0 + 10.0, 14.0 + 16.0, 23.0 + 22.0]);
    }

    #[test]
    #[should_panic(expected = "2×3")]
    fn shapes_that_do_not_fit_are_refused() {
        product(Factor::new(&[0.0; 6], 3), Factor::new(&[0.0; 4], 2), 0.0, &mut [0.0; 4]);
    }

    #[test]
    fn a_solution_solves() {
        let matrix = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0f64]];
        let factors = Cholesky::new(3, |row, column| matrix[row][column]).unwrap();
        let mut b = [1.0, 0.0, 2.0, 1.0, 3.0, -1.0];
        let right = b;
        factors.solve(&mut b, 2);
        for row in 0..3 {
            for column in 0..2 {
                let sum: f64 = (0..3).map(|at| matrix[row][at] * f64::from(b[at * 2 + column])).sum();
                assert!((sum - f64::from(right[row * 2 + column])).abs() < 1e-6);
            }
        }
        assert!(Cholesky::new(2, |_, _| 1.0).is_none());
    }
}
