package keys

import "golang.org/x/crypto/ssh"

// Immediate reports whether id signs without asking anybody: for a passphrase, a
// confirmation or a touch. Of keys in an agent that is not known, and it gives false.
func Immediate(id Identity) bool {
	switch id := id.(type) {
	case *memoryIdentity:
		return true
	case *presented:
		return Immediate(id.Identity)
	case *fileIdentity:
		return id.immediate()
	}
	return false
}

// immediate reports whether the private key has been decrypted, or need not be.
func (id *fileIdentity) immediate() bool {
	var signer ssh.Signer
	select {
	case signer = <-id.turn:
	default:
		return false // somebody is being asked
	}
	if signer == nil {
		if data, err := readPrivateFile(id.source); err == nil {
			if s, err := ssh.ParsePrivateKey(data); err == nil && Equal(s.PublicKey(), id.pub) {
				signer = s
			}
		}
	}
	id.turn <- signer
	return signer != nil
}
