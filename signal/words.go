package signal

import "fmt"

// String is the code in words.
func (c Code) String() string {
	switch c {
	case CodeInternal:
		return "internal error"
	case CodeProtocol:
		return "protocol violated"
	case CodeTimeout:
		return "silent for too long"
	case CodeRateLimited:
		return "rate limited"
	case CodeServerFull:
		return "server full"
	case CodeShuttingDown:
		return "server shutting down"
	case CodeNoRoom:
		return "no such room"
	case CodeRoomFull:
		return "room full"
	case CodeBadSignature:
		return "bad signature"
	case CodeWrongServer:
		return "wrong server name"
	case CodeNotAllowed:
		return "not allowed here"
	case CodeReplaced:
		return "replaced by another host with the same session key"
	case CodeSuperseded:
		return "superseded by another connection of the same host"
	case CodeDetached:
		return "cut off from the servers that it works with"
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// String is the reason in words.
func (r Reason) String() string {
	switch r {
	case ReasonDone:
		return "closed by the other side"
	case ReasonLost:
		return "the other side lost its connection to the signaling server"
	case ReasonOverflow:
		return "read too slowly"
	case ReasonQuota:
		return "carried more bytes than the signaling server allows"
	case ReasonIdle:
		return "silent for too long"
	case ReasonLifetime:
		return "open for longer than the signaling server allows"
	case ReasonRefused:
		return "the host takes no more guests at the moment"
	case ReasonShutdown:
		return "the signaling server shuts down"
	case ReasonMalformed:
		return "the other side broke the signaling protocol"
	case ReasonRevoked:
		return "the guest may no longer use the signaling server"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}
