package netchange

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		news := Every(ctx, 2*time.Second)
		for range 3 {
			<-news
		}
		if took := time.Since(begin); took != 6*time.Second {
			t.Errorf("three values after %v", took)
		}
		time.Sleep(time.Minute + time.Second)
		<-news // those that nobody takes are one
		cancel()
		synctest.Wait()
		select {
		case <-news:
			t.Error("a value after the end")
		default:
		}
	})
}
