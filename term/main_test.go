package term

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// helpers are what the test binary does instead of running tests, when it was
// started to be another process.
var helpers = map[string]func(){}

const helperEnv = "TERM_TEST_HELPER"

func TestMain(m *testing.M) {
	if RunKeeper() {
		return
	}
	if helper, ok := helpers[os.Getenv(helperEnv)]; ok {
		helper()
		return
	}
	goleak.VerifyTestMain(m)
}
