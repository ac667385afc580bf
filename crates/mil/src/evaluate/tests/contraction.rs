use super::*;

fn matmul(tx: bool, ty: bool) -> impl FnOnce(&[ValueId]) -> Op {
    move |v| Op::Matmul { x: v[0], y: v[1], transpose_x: tx, transpose_y: ty }
}

#[test]
fn matrices_and_their_transposes() {
    let x = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let x_t = floats(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let y = floats(&[3, 2], &[7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
    let y_t = floats(&[2, 3], &[7.0, 9.0, 11.0, 8.0, 10.0, 12.0]);
    let product = [floats(&[2, 2], &[58.0, 64.0, 139.0, 154.0])];
    check(matmul(false, false), &[x.clone(), y.clone()], &product);
    check(matmul(true, false), &[x_t.clone(), y.clone()], &product);
    check(matmul(false, true), &[x.clone(), y_t.clone()], &product);
    check(matmul(true, true), &[x_t, y_t], &product);
}

#[test]
fn leading_axes_broadcast() {
    // Two batches times one, and a group axis of size one times two.
    let x = floats(&[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    let y = floats(&[2, 2, 1], &[1.0, 1.0, 10.0, 100.0]);
    check(matmul(false, false), &[x, y], &[floats(&[2, 2, 1, 1], &[3.0, 210.0, 7.0, 430.0])]);
}

#[test]
fn vectors_lose_their_axis() {
    let m = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let v = floats(&[2], &[10.0, 1.0]);
    check(matmul(false, false), &[v.clone(), m.clone()], &[floats(&[2], &[13.0, 24.0])]);
    check(matmul(false, false), &[m, v], &[floats(&[2], &[12.0, 34.0])]);
}

#[test]
fn integer_matmul_wraps() {
    check(
        matmul(false, false),
        &[ints(&[1, 2], &[1 << 30, 1]), ints(&[2, 1], &[4, 5])],
        &[ints(&[1, 1], &[5])],
    );
}

#[test]
fn linear() {
    let x = floats(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let weight = floats(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    check(
        |v| Op::Linear { x: v[0], weight: v[1], bias: None },
        &[x.clone(), weight.clone()],
        &[floats(&[1, 2, 3], &[1.0, 2.0, 3.0, 3.0, 4.0, 7.0])],
    );
    check(
        |v| Op::Linear { x: v[0], weight: v[1], bias: Some(v[2]) },
        &[x, weight, floats(&[3], &[10.0, 20.0, 30.0])],
        &[floats(&[1, 2, 3], &[11.0, 22.0, 33.0, 13.0, 24.0, 37.0])],
    );
}

fn conv(
    strides: &[usize],
    pads: &[(usize, usize)],
    dilations: &[usize],
    groups: usize,
) -> impl FnOnce(&[ValueId]) -> Op {
    let (strides, pads, dilations) = (strides.to_vec(), pads.to_vec(), dilations.to_vec());
    move |v| Op::Conv {
        x: v[0],
        weight: v[1],
        bias: v.get(2).copied(),
        strides,
        pads,
        dilations,
        groups,
    }
}

#[test]
fn convolution_over_one_axis() {
    let x = counting(&[1, 1, 5]);
    let w = floats(&[1, 1, 2], &[1.0, 10.0]);
    let operands = [x, w];
    let row = |v: &[f64]| [floats(&[1, 1, v.len()], v)];
    check(conv(&[1], &[(0, 0)], &[1], 1), &operands, &row(&[10.0, 21.0, 32.0, 43.0]));
    check(conv(&[2], &[(0, 0)], &[1], 1), &operands, &row(&[10.0, 32.0]));
    check(conv(&[1], &[(0, 0)], &[3], 1), &operands, &row(&[30.0, 41.0]));
    check(conv(&[1], &[(1, 0)], &[1], 1), &operands, &row(&[0.0, 10.0, 21.0, 32.0, 43.0]));
    check(conv(&[1], &[(0, 1)], &[1], 1), &operands, &row(&[10.0, 21.0, 32.0, 43.0, 4.0]));
}

#[test]
fn convolution_over_two_axes_with_bias() {
    let x = counting(&[1, 1, 3, 3]);
    let w = floats(&[2, 1, 2, 2], &[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    check(
        conv(&[1, 1], &[(0, 0), (0, 0)], &[1, 1], 1),
        &[x, w, floats(&[2], &[100.0, 200.0])],
        &[floats(&[1, 2, 2, 2], &[104.0, 106.0, 110.0, 112.0, 201.0, 202.0, 204.0, 205.0])],
    );
}

#[test]
fn convolution_over_three_axes() {
    let x = counting(&[1, 1, 2, 2, 2]);
    let w = floats(&[1, 1, 2, 2, 2], &[1.0; 8]);
    let none = [(0, 0); 3];
    check(conv(&[1; 3], &none, &[1; 3], 1), &[x, w], &[floats(&[1, 1, 1, 1, 1], &[28.0])]);
}

#[test]
fn pointwise_convolution_sums_channels() {
    let x = floats(&[2, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let w = floats(&[1, 2, 1, 1], &[1.0, 10.0]);
    check(
        conv(&[1, 1], &[(0, 0), (0, 0)], &[1, 1], 1),
        &[x, w],
        &[floats(&[2, 1, 1, 2], &[31.0, 42.0, 75.0, 86.0])],
    );
}

#[test]
fn grouped_convolution_keeps_groups_apart() {
    let x = floats(&[1, 4, 1], &[1.0, 2.0, 3.0, 4.0]);
    let w = floats(&[2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]);
    check(conv(&[1], &[(0, 0)], &[1], 2), &[x, w], &[floats(&[1, 2, 1], &[21.0, 4300.0])]);
}

fn attention(v: &[ValueId]) -> Op {
    Op::Attention { query: v[0], key: v[1], value: v[2], mask: v.get(3).copied() }
}

#[test]
fn attention_weighs_values() {
    // E = 4 halves the scores; the two scores differ by ln 3.
    let ln3 = 3f64.ln();
    let q = floats(&[1, 1, 4], &[2.0, 0.0, 0.0, 0.0]);
    let k = floats(&[1, 2, 4], &[ln3, 0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0]);
    let v = floats(&[1, 2, 1], &[4.0, 8.0]);
    let plain = [q, k, v];
    check(attention, &plain, &[floats(&[1, 1, 1], &[5.0])]);
    let with = |mask: Tensor| [plain.as_slice(), &[mask]].concat();
    check(attention, &with(bools(&[1, 2], &[0, 1])), &[floats(&[1, 1, 1], &[8.0])]);
    check(attention, &with(floats(&[1, 2], &[-ln3, 0.0])), &[floats(&[1, 1, 1], &[6.0])]);
}
