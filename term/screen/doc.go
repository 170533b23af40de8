// Package screen models a terminal: it takes the bytes that a program writes
// to its terminal and holds the screen that they make, exactly.
//
// Start with [New] and [Screen.Write]. A [Snapshot] is an immutable copy of the
// whole state, cheap enough to take after every write; [AppendDiff] turns two
// of them into the bytes that bring a terminal from the one to the other. A
// [Canvas] composes the picture that a window of another size shows, again as
// a Snapshot, so that painting is a diff as well.
//
// The model follows xterm (ctlseqs, Patch #390 and later) in its UTF-8 mode.
// Where xterm differs from what both xterm.js and tmux do, the difference is
// named at the code that decides it.
//
// # What a snapshot promises
//
// A snapshot may be taken between any two bytes of the input. The bytes of
// AppendDiff(nil, s), followed by the rest of the input, bring a second Screen
// of the same size to the same state as the first one; a sequence that was cut
// in the middle is part of the state ([Snapshot.Pending]). Scrollback is
// carried along, but is not part of equality: every terminal keeps its own.
//
// # Bounds
//
// Whatever is written, memory stays within what the size, the scrollback bound
// and the tables' limits (see the constants in limits.go) allow, no sequence
// costs more than a walk over the screen, and nothing panics.
//
// A Screen is not safe for concurrent use. A Snapshot is safe for use by any
// number of goroutines and needs no lock.
package screen
