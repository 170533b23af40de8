package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// listTimeout bounds how long an agent may take to list its keys. Signing has
// no bound but the caller's context: it may wait for a touch or a dialog.
const listTimeout = 10 * time.Second

// ErrNotSigned: ssh-agent holds the key and did not sign with it. It may be locked, or
// a person said no, or did not touch the security key.
var ErrNotSigned = errors.New("ssh-agent did not sign")

// agentNone, as the agent's address, means that there is none (ssh_config(5),
// IdentityAgent).
const agentNone = "none"

// agentClient talks to the ssh-agent at a unix socket (also on Windows; the
// named pipe of Windows' own agent is not supported). Every call uses a
// connection of its own, so that nothing stays open and no call waits behind
// another one's touch.
type agentClient struct {
	socket string
}

// agentKey is a key that an agent holds.
type agentKey struct {
	pub     ssh.PublicKey
	comment string
}

// newAgentClient returns nil if there is no agent to talk to.
func newAgentClient(socket string) *agentClient {
	if socket == "" {
		socket = os.Getenv("SSH_AUTH_SOCK")
	}
	if socket == "" || socket == agentNone {
		return nil
	}
	return &agentClient{socket}
}

// do calls f with a connection that dies with ctx.
func (c *agentClient) do(ctx context.Context, f func(agent.ExtendedAgent) error) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("cannot reach the agent at %s: %w", printablePath(c.socket), dialCause(err))
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// Without a Close method in sight the client reads in this goroutine
	// instead of starting one.
	err = f(agent.NewClient(struct{ io.ReadWriter }{conn}))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// dialCause drops from err what the message around it says already.
func dialCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}

// list returns the agent's keys and, apart, why some of them are of no use.
func (c *agentClient) list(ctx context.Context) (held []agentKey, unusable []error, err error) {
	limited, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var raw []*agent.Key
	err = c.do(limited, func(a agent.ExtendedAgent) (err error) {
		raw, err = a.List()
		return err
	})
	if err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("the agent does not answer (waited %d seconds)", int(listTimeout.Seconds()))
		}
		return nil, nil, err
	}
	for _, k := range raw {
		pub, err := ssh.ParsePublicKey(k.Blob)
		if err != nil {
			err = fmt.Errorf("%w: type %q is not supported", ErrUnsuitableKey, Printable(k.Format))
		} else {
			err = CheckKey(pub)
		}
		if err != nil {
			unusable = append(unusable, fmt.Errorf("key %q: %w", Printable(k.Comment), err))
			continue
		}
		held = append(held, agentKey{pub, k.Comment})
	}
	return held, unusable, nil
}

// identity returns the identity of a key that c holds.
func (c *agentClient) identity(k agentKey) Identity {
	return &agentIdentity{described{k.pub, k.comment, SourceAgent}, c}
}

type agentIdentity struct {
	described
	client *agentClient
}

// Sign has the agent sign.
func (id *agentIdentity) Sign(ctx context.Context, namespace string, message []byte) ([]byte, error) {
	var flags agent.SignatureFlags
	if Plain(id.pub).Type() == ssh.KeyAlgoRSA {
		flags = agent.SignatureFlagRsaSha512
	}
	return sign(id.pub, namespace, message, func(data []byte) (sig *ssh.Signature, err error) {
		err = id.client.do(ctx, func(a agent.ExtendedAgent) (err error) {
			sig, err = a.SignWithFlags(id.pub, data, flags)
			return err
		})
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w with %s: %w", ErrNotSigned, Describe(id.pub, id.comment), err)
		}
		return sig, err
	})
}
