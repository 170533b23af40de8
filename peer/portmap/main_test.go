package portmap

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(helperEnv); args != "" {
		helper(args)
		return
	}
	goleak.VerifyTestMain(m)
}
