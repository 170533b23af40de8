//go:build !race

package link_test

import "time"

// relayLife is how long a relayed link lasts in tests.
const relayLife = 30 * time.Minute
