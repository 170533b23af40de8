package main

// Exit codes. A command that ran a shell to its end exits with the shell's
// status, or 128 plus the number of the signal that ended it; host and join
// alike. What follows is for everything that went wrong before or beside
// that; the numbers are those of sysexits(3) where it has one.
const (
	exitOK        = 0
	exitUsage     = 64  // the command line is wrong
	exitTicket    = 65  // the ticket is cut off, mistyped or too new
	exitKey       = 66  // no key, an unusable key, a wrong passphrase
	exitNoHost    = 68  // the server has no such room: the host is not there
	exitNoServer  = 69  // no signaling server could be reached
	exitSystem    = 71  // no terminal, no PTY, no shell, no such port to be had
	exitFile      = 73  // a file could not be read or made
	exitLost      = 74  // the direct connection was lost and could not be made again
	exitNoPath    = 75  // no direct path between the two machines
	exitWrongHost = 76  // whoever answered is not the host that was asked for
	exitRefused   = 77  // the host, or the server, does not let this key in
	exitConfig    = 78  // the configuration file is wrong
	exitError     = 255 // anything else, as with ssh
)

// What doctor exits with, beside 0.
const (
	exitDoctorWarning = 1 // some things will not work
	exitDoctorProblem = 2 // something that is needed does not work
)
