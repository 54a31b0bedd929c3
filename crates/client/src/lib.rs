//! WHIP publisher and WHEP viewer peers over real sockets (str0m): the demo publisher and the tests. Knows nothing of a server's insides.
#![forbid(unsafe_code)]
