// go-redis as it comes; see clients.mjs for what a program does.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	var nodes []string
	for _, port := range os.Args[2:] {
		nodes = append(nodes, "127.0.0.1:"+port)
	}
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "mymaster", SentinelAddrs: nodes})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		n, err := client.Incr(context.Background(), "n:"+os.Args[1]).Result()
		if err == nil {
			fmt.Println("ok", n)
		} else {
			fmt.Println("error", strings.SplitN(err.Error(), "\n", 2)[0])
		}
		time.Sleep(10 * time.Millisecond)
	}
}
