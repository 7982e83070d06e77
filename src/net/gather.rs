//! Writes several slices at once, the cheapest way for their size.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;

/// Up to here a copy costs less than a vectored write.
const SMALL: usize = 4096;

/// Writes `slices` to `stream`: small ones copied together and written as one, large ones as they are.
pub fn poll_write_gathered<S: AsyncWrite>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [slice] = slices {
        return stream.poll_write(cx, slice);
    }
    if slices.iter().map(|slice| slice.len()).sum::<usize>() > SMALL {
        return stream.poll_write_vectored(cx, slices);
    }
    let mut together: SmallVec<[u8; SMALL]> = SmallVec::new();
    for slice in slices {
        together.extend_from_slice(slice);
    }
    stream.poll_write(cx, &together)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn slices_arrive_in_order_whatever_their_size() {
        for lengths in [&[3][..], &[3, 5, 7], &[10, SMALL, 10], &[0, 1], &[0, 0]] {
            let (mut near, mut far) = tokio::io::duplex(64 * 1024);
            let parts: Vec<Vec<u8>> = lengths
                .iter()
                .zip(1..)
                .map(|(length, byte)| vec![byte; *length])
                .collect();
            let whole = parts.concat();
            let mut sent = 0;
            while sent < whole.len() {
                let mut slices: Vec<IoSlice<'_>> =
                    parts.iter().map(|part| IoSlice::new(part)).collect();
                let mut rest = &mut slices[..];
                IoSlice::advance_slices(&mut rest, sent);
                sent +=
                    std::future::poll_fn(|cx| poll_write_gathered(Pin::new(&mut near), cx, rest))
                        .await
                        .unwrap();
            }
            drop(near);
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, whole, "{lengths:?}");
        }
    }
}
