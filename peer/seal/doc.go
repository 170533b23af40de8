// Package seal encrypts messages once more, below the terminal and above
// whatever transport carries them, so that confidentiality does not rest on the
// DTLS implementation underneath alone.
//
// A record is
//
//	sequence number   8 bytes, big endian, counts from 0
//	ciphertext        as long as the plaintext
//	tag               16 bytes
//
// sealed with AES-256-GCM (half again as fast as ChaCha20-Poly1305, where it was
// measured) under a nonce of four zero bytes and the sequence number. The nonce is a
// counter, never random, so it cannot repeat under one key.
// The channel's context is authenticated with every record.
//
// Use [Derive] to get one key for each channel and direction, then [Wrap] to seal
// a channel transparently, or [NewSealer] and [NewOpener] to handle records
// yourself.
//
// Promised: a record is accepted at most once; a changed, truncated, reflected or
// replayed record, or one of another channel, is never accepted; on an ordered
// channel nothing is dropped, repeated or reordered without an error. Not
// promised: on an unordered channel the loss of records goes unnoticed, as it must;
// lengths and timing of messages are visible; there is no forward secrecy beyond
// that of the secret the keys are derived from.
//
// The obligation of the caller: one key, one [Sealer], once. Two sealers that
// share a key repeat nonces, which gives away plaintext and the power to forge.
// That is why Derive takes a binding that is fresh for every link.
package seal
