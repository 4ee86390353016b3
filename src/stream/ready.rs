//! What of a body is here already. Small parts go on together: a body in chunks of one byte would otherwise be a message
//! to NATS for each of them.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

/// What comes next of a body; `None` at its end.
pub type Next<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

/// `first` and the parts of `body` that follow it and are here already, up to about `most` bytes. Nothing is waited for. With
/// them what was found behind them, where that is no more data: it comes next.
pub fn gather<B>(body: &mut B, first: Bytes, most: usize) -> (Bytes, Option<Next<B>>)
where
    B: Body<Data = Bytes> + Unpin,
{
    if first.len() >= SMALL {
        return (first, None);
    }
    let mut gathered: Option<BytesMut> = None;
    let mut size = first.len();
    let mut behind = None;
    while size < most {
        match body.frame().now_or_never() {
            None => break,
            Some(Some(Ok(frame))) if frame.is_data() => {
                let data = frame.into_data().unwrap_or_default();
                size += data.len();
                gathered.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(&data);
            }
            Some(next) => {
                behind = Some(next);
                break;
            }
        }
    }
    (gathered.map_or(first, BytesMut::freeze), behind)
}

/// Parts of this size and more go on alone.
const SMALL: usize = 1024;

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        pin::Pin,
        task::{Context, Poll},
    };

    use http::HeaderMap;

    use super::*;

    /// Frames that are here; then nothing for a while.
    struct Here(VecDeque<Result<Frame<Bytes>, &'static str>>);

    impl Body for Here {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            self.0.pop_front().map_or(Poll::Pending, |frame| Poll::Ready(Some(frame)))
        }
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn small_parts_that_are_here_go_on_together_and_what_is_behind_them_is_kept() {
        let mut body = Here([data("b"), data("c"), Ok(Frame::trailers(HeaderMap::new())), data("d")].into());
        let (parts, behind) = gather(&mut body, Bytes::from_static(b"a"), 100);
        assert_eq!(parts, "abc");
        assert!(behind.unwrap().unwrap().unwrap().is_trailers());
        let mut body = Here([data("b"), Err("broke")].into());
        let (parts, behind) = gather(&mut body, Bytes::from_static(b"a"), 100);
        assert_eq!((parts.as_ref(), behind.unwrap().unwrap().unwrap_err()), (&b"ab"[..], "broke"));
    }

    #[test]
    fn nothing_is_waited_for_and_no_more_is_gathered_than_may_be() {
        let mut body = Here(VecDeque::new());
        assert_eq!(gather(&mut body, Bytes::from_static(b"a"), 100).0, "a", "an event goes at once");
        let mut body = Here([data("bb"), data("cc"), data("dd")].into());
        assert_eq!(gather(&mut body, Bytes::from_static(b"a"), 4).0, "abbcc");
        let large = Bytes::from(vec![b'x'; SMALL]);
        assert_eq!(gather(&mut body, large.clone(), 100_000).0, large);
        assert_eq!(body.0.len(), 1);
    }
}
