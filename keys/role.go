package keys

import "fmt"

// Role says what somebody may do with the shared terminal. Roles are ordered:
// a smaller one may do less. The zero Role may do nothing.
type Role uint8

const (
	RoleNone Role = iota // is not admitted
	RoleView             // sees the terminal
	RoleType             // sees it and types
)

// String returns the role's name as [ParseRole] takes it.
func (r Role) String() string {
	switch r {
	case RoleNone:
		return "none"
	case RoleView:
		return "view"
	case RoleType:
		return "type"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// ParseRole parses "view" or "type". Nobody is listed in order to be given
// nothing, so "none" is an error here.
func ParseRole(s string) (Role, error) {
	switch s {
	case "view":
		return RoleView, nil
	case "type":
		return RoleType, nil
	}
	return RoleNone, fmt.Errorf("unknown role %q: there are view and type", Printable(s))
}

// MarshalText implements [encoding.TextMarshaler].
func (r Role) MarshalText() ([]byte, error) {
	if r > RoleType {
		return nil, fmt.Errorf("invalid role %d", uint8(r))
	}
	return []byte(r.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Role) UnmarshalText(text []byte) error {
	if string(text) == "none" {
		*r = RoleNone
		return nil
	}
	role, err := ParseRole(string(text))
	if err != nil {
		return err
	}
	*r = role
	return nil
}
