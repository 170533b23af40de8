package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pairterm/pairterm/keys"
)

func keygenCommand(std stdio, ui *ui) *cli.Command {
	return &cli.Command{
		Name:      "keygen",
		Usage:     "make a key pair, for those who have no SSH key yet",
		ArgsUsage: "[--type TYPE] [--comment TEXT] [--passphrase] [FILE]",
		Description: `  pairterm keygen                    make the key that pairterm finds by itself
  pairterm keygen ~/.ssh/pairing     make one elsewhere; join with --identity FILE

The files are OpenSSH's own: FILE holds the private key, FILE.pub the public
line, which is what you send to hosts. Nothing is ever overwritten.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "type", Value: string(keys.KeyTypeEd25519), Usage: "`TYPE` of key: ed25519, ecdsa or rsa"},
			&cli.StringFlag{Name: "comment", Usage: "`TEXT` by which people recognise the key (default: user@host)"},
			&cli.BoolFlag{Name: "passphrase", Usage: "ask for a passphrase and encrypt the private key with it"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usage("pairterm keygen FILE", "more than one file: %q", c.Args().Slice())
			}
			kind, err := keys.ParseKeyType(c.String("type"))
			if err != nil {
				return usage("see: pairterm keygen --help", "%w", err)
			}
			if t := c.String("comment"); keys.Printable(t) != t {
				return usage("a comment is one short line of text", "--comment %q has characters that cannot be shown, or is too long", t)
			}
			path := c.Args().First()
			if path == "" {
				if path, err = keys.OwnKeyPath(); err != nil {
					return err
				}
			}
			if strings.HasSuffix(path, ".pub") {
				return usage("pairterm keygen "+strings.TrimSuffix(path, ".pub"), "%s is the name of a public key's file, and the private key comes first", path)
			}
			var passphrase []byte
			if c.Bool("passphrase") {
				if passphrase, err = newPassphrase(c.Context); err != nil {
					return err
				}
			}
			pub, err := keys.Generate(kind, path, c.String("comment"), passphrase)
			if _, noPublic := os.Stat(path + ".pub"); errors.Is(err, keys.ErrExists) && noPublic == nil {
				return fail(exitFile, err, append(hints(err), "there is a key already; its public line is in "+path+".pub")...)
			}
			if err != nil {
				return err
			}
			comment := c.String("comment")
			if comment == "" {
				comment = keys.DefaultComment()
			}
			ui.infof("made %s and %s.pub", path, path)
			ui.infof("fingerprint %s", keys.Fingerprint(pub))
			ui.infof("this line is what hosts allow:")
			fmt.Fprintln(std.Out, keys.AuthorizedLine(pub, comment))
			return nil
		},
	}
}
