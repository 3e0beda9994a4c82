use std::cell::Cell;
use std::ops::Range;

use gogrid_units::{Bytes, WeightType};

use super::{PackError, Packed, Packing};
use crate::buffer::Buffer;
use crate::quant::quantise_row;
use crate::quant::tests::{Noise, plain};

/// Rows with a `cols` that is whole blocks of every type but the last group of four columns of
/// the floats.
fn shape(ty: WeightType) -> (usize, usize) {
    (37, if ty.block_len() == 1 { 53 } else { 768 })
}

fn stored(ty: WeightType, rows: usize, cols: usize) -> Vec<u8> {
    let mut noise = Noise(11);
    (0..rows).flat_map(|_| noise.row(ty, cols)).collect()
}

/// A reader of rows held in memory.
fn reader(bytes: &[u8], row_bytes: usize) -> impl FnMut(Range<usize>, &mut [u8]) -> Result<(), ()> {
    move |rows, out| {
        out.copy_from_slice(&bytes[rows.start * row_bytes..rows.end * row_bytes]);
        Ok(())
    }
}

#[test]
fn every_row_comes_back_as_the_file_means_it() {
    for ty in WeightType::ALL {
        let (rows, cols) = shape(ty);
        let bytes = stored(ty, rows, cols);
        let row_bytes = ty.row_bytes(cols).unwrap();
        let packed = Packed::pack(
            Packing {
                stored: ty,
                kept: ty,
                rows,
                cols,
            },
            &mut reader(&bytes, row_bytes),
        )
        .unwrap();
        assert_eq!(
            Some(packed.bytes()),
            Packed::bytes_for(ty, rows, cols),
            "{ty}"
        );
        for (row, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
            let mut values = vec![0.0; cols];
            packed.dequantise_row(row, &mut values);
            assert_eq!(values, plain(ty, bytes), "{ty}, row {row}");
        }
    }
}

#[test]
fn floats_are_quantised_while_packing() {
    for from in [WeightType::F32, WeightType::F16, WeightType::Bf16] {
        for to in WeightType::ALL {
            if from == to || Packed::can_keep(from, to).is_err() {
                continue;
            }
            let bytes = stored(from, 18, 256);
            let row_bytes = from.row_bytes(256).unwrap();
            let packed = Packed::pack(
                Packing {
                    stored: from,
                    kept: to,
                    rows: 18,
                    cols: 256,
                },
                &mut reader(&bytes, row_bytes),
            )
            .unwrap();
            for (row, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
                let mut values = vec![0.0; 256];
                packed.dequantise_row(row, &mut values);
                let expected = plain(to, &quantise_row(to, &plain(from, bytes)));
                assert_eq!(values, expected, "{from} as {to}, row {row}");
            }
        }
    }
}

#[test]
fn rows_are_read_once_in_order_a_megabyte_at_a_time() {
    let ty = WeightType::Q8_0;
    let (next, most) = (Cell::new(0), Cell::new(0));
    let mut read = |rows: Range<usize>, out: &mut [u8]| {
        assert_eq!(rows.start, next.replace(rows.end));
        assert_eq!(out.len(), rows.len() * ty.row_bytes(4096).unwrap());
        most.set(most.get().max(out.len()));
        Ok::<_, ()>(())
    };
    Packed::pack(
        Packing {
            stored: ty,
            kept: ty,
            rows: 1000,
            cols: 4096,
        },
        &mut read,
    )
    .unwrap();
    assert_eq!(next.get(), 1000);
    assert!(
        (1 << 19..=1 << 20).contains(&most.get()),
        "{} bytes at once",
        most.get()
    );
}

#[test]
fn a_reader_that_fails_ends_the_packing() {
    let ty = WeightType::Q4_1;
    let read = &mut |rows: Range<usize>, _: &mut [u8]| {
        if rows.start > 0 { Err("row 1") } else { Ok(()) }
    };
    let result = Packed::pack(
        Packing {
            stored: ty,
            kept: ty,
            rows: 100_000,
            cols: 32,
        },
        read,
    );
    assert_eq!(result.unwrap_err(), PackError::Read("row 1"));
}

#[test]
fn sizes_are_about_the_files_and_refused_when_they_cannot_be() {
    for ty in WeightType::ALL {
        let file = ty.row_bytes(4096).unwrap() * 1024;
        let packed = Packed::bytes_for(ty, 1024, 4096).unwrap();
        // A code is kept for each value where the file has an entry of a grid, five values a byte, or a
        // scale of one byte.
        let most = match ty {
            WeightType::Q3K => 1.04,
            WeightType::Iq4Xs => 1.02,
            WeightType::Mxfp4 => 1.06,
            WeightType::Iq3S => 1.26,
            WeightType::Iq3Xxs => 1.41,
            WeightType::Iq2S => 1.4,
            WeightType::Iq2Xs => 1.55,
            WeightType::Iq2Xxs => 1.61,
            WeightType::Iq1M => 2.04,
            WeightType::Iq1S => 2.13,
            WeightType::Tq1_0 => 1.38,
            WeightType::Tq2_0 => 1.13,
            _ => 1.03,
        };
        // And a page that is not full, which has up to 64 KiB.
        let page = Buffer::<u8>::pages_for(1).0;
        assert!(
            packed.0 as f64 <= file as f64 * most + page as f64,
            "{ty}: {packed} of {}",
            Bytes::of(file)
        );
    }
    assert_eq!(Packed::bytes_for(WeightType::Q4K, 16, 576), None);
    assert_eq!(Packed::bytes_for(WeightType::Q4K, 0, 0), Some(Bytes::ZERO));
    assert_eq!(Packed::bytes_for(WeightType::F32, usize::MAX, 16), None);
    assert_eq!(
        Packed::bytes_for(WeightType::Q8_0, 16, usize::MAX - 31),
        None
    );
}

#[test]
#[should_panic(expected = "cannot keep q4_0 weights as q8_0")]
fn packing_what_cannot_be_kept_is_a_bug() {
    let read = &mut |_: Range<usize>, _: &mut [u8]| Ok::<_, ()>(());
    let _ = Packed::pack(
        Packing {
            stored: WeightType::Q4_0,
            kept: WeightType::Q8_0,
            rows: 16,
            cols: 32,
        },
        read,
    );
}
