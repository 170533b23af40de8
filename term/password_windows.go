package term

import (
	"context"
	"os"

	xterm "golang.org/x/term"
)

func readPassword(ctx context.Context, prompt string) ([]byte, error) {
	in, err := os.OpenFile("CONIN$", os.O_RDWR, 0)
	if err != nil {
		return nil, ErrNotTerminal
	}
	defer in.Close()
	out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
	if err != nil {
		return nil, ErrNotTerminal
	}
	defer out.Close()
	if _, err := out.WriteString(prompt); err != nil {
		return nil, err
	}
	line, err := xterm.ReadPassword(int(in.Fd()))
	_, _ = out.WriteString("\r\n")
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(line) > maxPassword {
		line = line[:maxPassword]
	}
	return line, err
}
