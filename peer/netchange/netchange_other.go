//go:build !linux

package netchange

import "errors"

// subscription is none yet: these systems tell, too, each in its way.
type subscription struct{}

func subscribe() (*subscription, error) { return nil, errors.ErrUnsupported }

func (*subscription) wait() error { return errors.ErrUnsupported }

func (*subscription) drain() bool { return false }

func (*subscription) Close() error { return nil }
