// Package natlab is test support: it builds small internets of Linux network
// namespaces, with NATs and firewalls of choice, in which tests run the real program.
// Nothing that ships links it, which a test in cmd/pairterm guards.
//
//	lab := natlab.New(t) // skips the test where it may not
//	home := lab.Site("home", natlab.Config{NAT: natlab.Cone})
//	laptop := home.Machine("laptop")
//	err := laptop.Start(exec.Command("pairterm", "join", ticket))
//
// It needs Linux, root, iproute2, nftables and conntrack; sites with Config.PortMap also
// miniupnpd.
//
// The namespaces have no names: they are held by open files of the test's process and
// by the processes in them, which the kernel kills when the test's process dies. So
// nothing is left behind, however a test ends, and labs of several processes cannot
// collide. To look into one while a test hangs:
//
//	nsenter --net=/proc/PID/fd/N ip address     the test's log has PID and N
package natlab
