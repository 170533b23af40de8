package main

import (
	"context"
	"os"
)

// hangups is for other systems: here nothing asks programs to reload.
func hangups(context.Context) <-chan os.Signal { return nil }
