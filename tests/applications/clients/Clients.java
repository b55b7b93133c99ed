import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.Callable;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.RedisSentinelClient;

/** lettuce and jedis as they come; see clients.mjs for what a program does. */
public class Clients {
    public static void main(String[] args) throws Exception {
        String key = "n:" + args[0];
        Callable<Long> incr = args[0].equals("lettuce") ? lettuce(args, key) : jedis(args, key);
        Thread end = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (Exception ignored) {
            }
            Runtime.getRuntime().halt(0);
        });
        end.setDaemon(true);
        end.start();
        while (true) {
            try {
                System.out.println("ok " + incr.call());
            } catch (Exception failure) {
                System.out.println("error " + String.valueOf(failure.getMessage()).lines().findFirst().orElse("?"));
            }
            Thread.sleep(10);
        }
    }

    static Callable<Long> lettuce(String[] args, String key) {
        RedisURI.Builder uri = RedisURI.builder().withSentinelMasterId("mymaster");
        for (int i = 1; i < args.length; i++) {
            uri.withSentinel("127.0.0.1", Integer.parseInt(args[i]));
        }
        var commands = RedisClient.create(uri.build()).connect().sync();
        return () -> commands.incr(key);
    }

    static Callable<Long> jedis(String[] args, String key) {
        Set<HostAndPort> nodes = new HashSet<>();
        for (int i = 1; i < args.length; i++) {
            nodes.add(new HostAndPort("127.0.0.1", Integer.parseInt(args[i])));
        }
        var client = RedisSentinelClient.builder().masterName("mymaster").sentinels(nodes).build();
        return () -> client.incr(key);
    }
}
