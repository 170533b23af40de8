// Package tunnel is the authenticated connection over which a guest and a
// host find out who the other is and then agree on a direct path.
//
// It runs over any byte pipe, in practice one through a signaling server that
// is not trusted: TLS 1.3 with the hybrid post-quantum key agreement
// X25519MLKEM768, in which the host presents a certificate of its session
// key, which the guest's ticket pins; then the guest proves an SSH key by an
// SSHSIG signature over the connection's exported keying material (RFC 8446
// section 7.5, RFC 9266), and the host likewise with labels of its own. A
// proof is therefore good once, here, in this direction, and never as an SSH
// login.
//
// [Host.Accept] and [Guest.Dial] each return a [Conn] or an error; what they
// promise:
//
//   - The host sends nothing about itself, not even its SSH key, before the
//     guest's proof was accepted.
//   - The guest signs nothing before the host proved the session key that the
//     ticket pins, and is asked to sign only with the key that the host chose
//     from those it offered.
//   - Every wait is bounded, every length capped before it is allocated.
//
// What they do not: whoever has the ticket can learn whether a public key
// that he already knows is on the host's list, as with an SSH server.
package tunnel

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
)

// alpn names the protocol inside TLS (RFC 7301).
const alpn = "pairterm/1"

// SSHSIG namespaces (PROTOCOL.sshsig). The two directions have their own, so
// that no proof can be reflected.
const (
	guestNamespace = "guest.v1@pairterm"
	hostNamespace  = "host.v1@pairterm"
)

// Labels for exported keying material. RFC 8446 allows any; the EXPERIMENTAL
// prefix of RFC 5705 section 4 is for labels that are not registered.
const (
	guestProofLabel  = "EXPERIMENTAL pairterm guest proof v1"
	hostProofLabel   = "EXPERIMENTAL pairterm host proof v1"
	guestResumeLabel = "EXPERIMENTAL pairterm guest resume v1"
	hostResumeLabel  = "EXPERIMENTAL pairterm host resume v1"
	secretLabel      = "EXPERIMENTAL pairterm resumption secret v1"
)

// SecretSize is the size of a resumption secret, in bytes.
const SecretSize = 32

// Waits of a handshake. The proof may need a passphrase typed or a key
// touched, so it gets the time that a person needs.
const (
	openTimeout  = 15 * time.Second
	proofTimeout = 2 * time.Minute
)

// RefusalCode says why a host refused a guest.
type RefusalCode uint8

// Codes are part of the protocol; their values never change.
const (
	RefusedNotAllowed RefusalCode = 1 // no offered key is on the list
	RefusedExpired    RefusalCode = 2 // the key's entry or certificate has expired
	RefusedDenied     RefusalCode = 3 // the person at the host said no
	RefusedFull       RefusalCode = 4 // no more guests are taken
	RefusedProof      RefusalCode = 5 // the proof was not good
	RefusedVersion    RefusalCode = 6 // the versions do not speak with each other
	RefusedEnding     RefusalCode = 7 // the session is ending
	RefusedUnknown    RefusalCode = 8 // the session to be resumed is not known any more
)

// RefusedError reports that a guest was refused. Both ends get one: the guest
// to tell its user, the host to tell who knocked. Text comes from the other
// side; print it with keys.Printable.
type RefusedError struct {
	Code RefusalCode
	Text string
	// Offered are the public keys that the guest offered, and their comments.
	// Nothing shows that the guest holds them.
	Offered []Offer
	// Withheld is how many keys the guest has beside those, for which a hello has no
	// room. Only the guest knows.
	Withheld int
}

func (e *RefusedError) Error() string {
	text := keys.Printable(e.Text)
	if text == "" {
		text = fmt.Sprintf("code %d", e.Code)
	}
	return "refused by the host: " + text
}

// Offer is a public key that a guest says it has.
type Offer struct {
	Key     ssh.PublicKey
	Comment string
}

// Errors that callers tell apart.
var (
	// ErrWrongHost: whoever answered does not hold the session key that the
	// ticket pins.
	ErrWrongHost = errors.New("the host does not hold the session key that the ticket names")
	// ErrHostKey: the host did not prove a key that the guest insists on.
	ErrHostKey = errors.New("the host did not prove the key that was asked for")
	// ErrBroken: what arrived from the host is not what it sent, or not from a
	// pairterm; the cause is wrapped too. On a pipe that is reliable somebody meddles.
	ErrBroken = errors.New("the way to the host damages what it carries")
	// ErrSilent: the host does not answer, though the server has a pipe to it.
	ErrSilent = errors.New("the host does not answer")
)

// Conn is a tunnel after both ends are satisfied. Its methods may be called
// concurrently, but Recv by one goroutine at a time and likewise Send.
type Conn struct {
	tls  *tls.Conn
	send sync.Mutex
	buf  []byte // guarded by send

	peer Peer
}

// Peer describes the other end.
type Peer struct {
	// Key is the SSH public key or certificate that it proved; nil for a host
	// that proved only its session key, and in a resumed tunnel.
	Key     ssh.PublicKey
	Comment string // untrusted text
	Role    keys.Role
	// Guest names the guest, at both ends.
	Guest GuestID
	// Resumed says that the guest proved itself by its resumption secret.
	Resumed bool
	// Secret is the resumption secret; in a resumed tunnel the one given.
	Secret []byte
	// Software is what the guest says it runs; Info is what the host said
	// of itself. Both are untrusted.
	Software string
	Info     []byte
}

// Peer returns what is known of the other end.
func (c *Conn) Peer() Peer { return c.peer }

// Export returns n bytes of keying material of this connection (RFC 8446
// section 7.5), the same at both ends, for the label.
func (c *Conn) Export(label string, n int) ([]byte, error) {
	return export(c.tls, label, n)
}

func export(c *tls.Conn, label string, n int) ([]byte, error) {
	cs := c.ConnectionState()
	return cs.ExportKeyingMaterial(label, nil, n)
}

// finish ends a handshake that went well or failed with err. stop undoes the
// closing of pipe by ctx.
func finish(ctx context.Context, stop func() bool, c *Conn, pipe net.Conn, err error) (*Conn, error) {
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err == nil {
		err = c.tls.SetDeadline(time.Time{})
	}
	if err != nil {
		pipe.Close()
		return nil, err
	}
	return c, nil
}

// Send sends one message of at most MaxPayload bytes.
func (c *Conn) Send(ctx context.Context, p []byte) error {
	c.send.Lock()
	defer c.send.Unlock()
	stop := deadlineFromContext(ctx, c.tls.SetWriteDeadline)
	defer stop()
	err := c.write(data{Payload: p})
	return contextError(ctx, err)
}

// Recv returns the next message, which the caller owns. It returns io.EOF
// when the other end has closed the tunnel.
func (c *Conn) Recv(ctx context.Context) ([]byte, error) {
	stop := deadlineFromContext(ctx, c.tls.SetReadDeadline)
	defer stop()
	m, err := readMessage(c.tls)
	if err != nil {
		return nil, contextError(ctx, err)
	}
	d, ok := m.(data)
	if !ok {
		return nil, fmt.Errorf("unexpected message of type %d in an open tunnel", m.kind())
	}
	return d.Payload, nil
}

// Close closes the tunnel and the pipe under it.
func (c *Conn) Close() error { return c.tls.Close() }

// write frames and writes m; the caller holds send or is alone.
func (c *Conn) write(m message) error {
	b, err := appendFrame(c.buf[:0], m)
	if err != nil {
		return err
	}
	c.buf = b
	_, err = c.tls.Write(b)
	return err
}

// expect reads the next message and requires it to be a T.
func expect[T message](c *Conn) (T, error) {
	m, err := readMessage(c.tls)
	if err != nil {
		return *new(T), err
	}
	t, ok := m.(T)
	if !ok {
		return t, fmt.Errorf("unexpected message of type %d", m.kind())
	}
	return t, nil
}

// deadlineFromContext lets ctx's deadline and cancellation act through set.
// The returned function undoes it.
func deadlineFromContext(ctx context.Context, set func(time.Time) error) (stop func()) {
	if d, ok := ctx.Deadline(); ok {
		set(d)
	}
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		set(time.Unix(1, 0))
		close(done)
	})
	return func() {
		if !cancel() {
			<-done
		}
		set(time.Time{})
	}
}

// contextError returns ctx's error in place of the timeout it caused.
func contextError(ctx context.Context, err error) error {
	var ne net.Error
	if err != nil && errors.As(err, &ne) && ne.Timeout() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The connection's deadline can fire a moment before the context's.
	if err != nil && errors.As(err, &ne) && ne.Timeout() {
		if _, ok := ctx.Deadline(); ok {
			return context.DeadlineExceeded
		}
	}
	return err
}

// config is common to both ends: nothing older than TLS 1.3, no key
// agreement that a quantum computer breaks, no session tickets.
func config() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768},
		NextProtos:             []string{alpn},
		SessionTicketsDisabled: true,
	}
}

// certificate wraps the session key in a self-signed certificate. Nobody
// looks at anything in it but the key.
func certificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    time.Unix(0, 0),
		// RFC 5280 section 4.1.2.5: no well-defined expiry.
		NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("session certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// proofMessage is what an SSHSIG proof signs: a purpose, so that the bytes
// mean nothing elsewhere, and the connection's exported keying material.
func proofMessage(c *tls.Conn, label string) ([]byte, error) {
	ekm, err := export(c, label, 32)
	if err != nil {
		return nil, err
	}
	return append([]byte(label+"\x00"), ekm...), nil
}

// resumeMAC proves possession of a resumption secret on this connection.
func resumeMAC(c *tls.Conn, label string, secret []byte) ([]byte, error) {
	ekm, err := export(c, label, 32)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(label + "\x00"))
	mac.Write(ekm)
	return mac.Sum(nil), nil
}
