//! Batched UDP send and receive; the only unsafe code. Knows datagrams, not what is in them.
