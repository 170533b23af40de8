package term

import "time"

// process is what hosting would need.
type process struct {
	done   chan struct{}
	status ExitStatus
}

func startProcess(Command, Size, *TTY) (*process, error) { return nil, ErrHosting }

func (p *process) wait() ExitStatus                 { return p.status }
func (p *process) Read([]byte) (int, error)         { return 0, ErrHosting }
func (p *process) Write([]byte) (int, error)        { return 0, ErrHosting }
func (p *process) SetWriteDeadline(time.Time) error { return ErrHosting }
func (p *process) quiet()                           {}
func (p *process) resize(Size, int, int) error      { return ErrHosting }
func (p *process) signals() (keys signalKeys)       { return keys }
func (p *process) flushInput()                      {}
func (p *process) hangup()                          {}
func (p *process) kill()                            {}
func (p *process) close()                           {}
