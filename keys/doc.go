// Package keys is how pairterm knows people: by their OpenSSH keys.
//
// It answers three questions and nothing else:
//
//   - Who am I? [Identities] finds the keys a person can prove to hold, in
//     ssh-agent and in files, and an [Identity] signs proofs with one of them.
//     [Generate] makes a new key pair.
//   - Who is that? [Verify] checks a proof of possession (an SSHSIG signature
//     with a namespace, see PROTOCOL.sshsig of OpenSSH).
//   - May they? [ParseAuthorizedKeys] reads lists in the authorized_keys
//     format, an [Allowlist] keeps lists from several sources current, and
//     [List.Lookup] decides about one key at one moment.
//
// # Obligations
//
// A proof says that somebody holds a private key. It says nothing about
// whether that key is welcome: every caller of [Verify] must also ask
// [List.Lookup], and must ask again whenever [Allowlist.Changes] fires and at
// [Match.ExpiresAt].
//
// Comments, names inside certificates and whatever else comes with a key were
// written by strangers. Show them through [Printable] or [Describe] only.
//
// # Promises
//
// Everything here fails closed. An empty or nil list admits nobody; a key type,
// option, certificate constraint or signature algorithm that is not understood
// is refused with its reason, never skipped in silence. Where several lines
// speak about one key, their restrictions add up.
//
// Accepted are ed25519, ecdsa (the three NIST curves), rsa of at least
// [MinRSABits] bits with SHA-2 signatures, the FIDO types sk-ssh-ed25519 and
// sk-ecdsa (which must assert the user's presence), and user certificates over
// any of them.
//
// This package imports no other package of pairterm.
package keys
