//go:build race

package link_test

import "time"

// relayLife is how long a relayed link lasts in tests. After five minutes, when it renews
// a channel, pion's TURN client writes a variable of two goroutines', which it does not
// read.
const relayLife = 4 * time.Minute
