<?php
// WordPress' object cache, kept in Redis: what one request has asked the database for, the
// next one need not. WordPress loads this file from wp-content, and calls functions of these
// names. Without Redis it caches for the one request, as WordPress does by itself.

class WP_Object_Cache {
    private ?Redis $redis = null;
    private array $seen = [];
    private array $request_only = [];

    public function __construct() {
        $redis = new Redis();
        try {
            if ($redis->connect(WP_REDIS_HOST, 6379, 0.5) && $redis->auth(WP_REDIS_PASSWORD)) {
                $redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
                $redis->setOption(Redis::OPT_PREFIX, 'wp:');
                $this->redis = $redis;
            }
        } catch (RedisException $error) {
            error_log('no object cache: ' . $error->getMessage());
        }
    }

    /** What $ask makes of Redis, or $otherwise without one, or once it has gone. */
    private function redis(string $group, callable $ask, mixed $otherwise): mixed {
        if (!$this->redis || isset($this->request_only[$group])) {
            return $otherwise;
        }
        try {
            return $ask($this->redis);
        } catch (RedisException $error) {
            error_log('the object cache is gone: ' . $error->getMessage());
            $this->redis = null;
            return $otherwise;
        }
    }

    /** Objects are copied on their way in and out: nobody changes what is kept. */
    private static function copy(mixed $value): mixed {
        return is_object($value) ? clone $value : $value;
    }

    public function add_request_only(array $groups): void {
        $this->request_only += array_fill_keys($groups, true);
    }

    public function get(string $key, string $group, bool $force, &$found): mixed {
        $id = "$group:$key";
        if ($force || !array_key_exists($id, $this->seen)) {
            // In an array, because what is kept may itself be false.
            $kept = $this->redis($group, fn($redis) => $redis->get($id), false);
            if (is_array($kept)) {
                $this->seen[$id] = $kept[0];
            } elseif (!array_key_exists($id, $this->seen)) {
                $found = false;
                return false;
            }
        }
        $found = true;
        return self::copy($this->seen[$id]);
    }

    public function set(string $key, mixed $value, string $group, int $seconds): bool {
        $id = "$group:$key";
        $this->seen[$id] = self::copy($value);
        $options = $seconds > 0 ? ['ex' => $seconds] : [];
        return (bool) $this->redis($group, fn($redis) => $redis->set($id, [$value], $options), true);
    }

    public function delete(string $key, string $group): bool {
        $id = "$group:$key";
        $had = array_key_exists($id, $this->seen);
        unset($this->seen[$id]);
        return (bool) $this->redis($group, fn($redis) => $redis->del($id), $had);
    }

    public function flush(): bool {
        $this->seen = [];
        return (bool) $this->redis('', fn($redis) => $redis->flushDB(), true);
    }

    public function forget_seen(): bool {
        $this->seen = [];
        return true;
    }
}

function wp_cache_init() {
    $GLOBALS['wp_object_cache'] = new WP_Object_Cache();
}
function wp_cache_get($key, $group = '', $force = false, &$found = null) {
    return $GLOBALS['wp_object_cache']->get((string) $key, $group ?: 'default', $force, $found);
}
function wp_cache_set($key, $data, $group = '', $expire = 0) {
    return $GLOBALS['wp_object_cache']->set((string) $key, $data, $group ?: 'default', (int) $expire);
}
function wp_cache_add($key, $data, $group = '', $expire = 0) {
    if (wp_suspend_cache_addition()) {
        return false;
    }
    wp_cache_get($key, $group, false, $found);
    return $found ? false : wp_cache_set($key, $data, $group, $expire);
}
function wp_cache_replace($key, $data, $group = '', $expire = 0) {
    wp_cache_get($key, $group, false, $found);
    return $found ? wp_cache_set($key, $data, $group, $expire) : false;
}
function wp_cache_delete($key, $group = '') {
    return $GLOBALS['wp_object_cache']->delete((string) $key, $group ?: 'default');
}
function wp_cache_incr($key, $offset = 1, $group = '') {
    $value = wp_cache_get($key, $group, true, $found);
    if (!$found) {
        return false;
    }
    $value = max(0, (int) $value + $offset);
    wp_cache_set($key, $value, $group);
    return $value;
}
function wp_cache_decr($key, $offset = 1, $group = '') {
    return wp_cache_incr($key, -$offset, $group);
}
function wp_cache_flush() {
    return $GLOBALS['wp_object_cache']->flush();
}
function wp_cache_flush_runtime() {
    return $GLOBALS['wp_object_cache']->forget_seen();
}
function wp_cache_add_non_persistent_groups($groups) {
    $GLOBALS['wp_object_cache']->add_request_only((array) $groups);
}
function wp_cache_supports($feature) {
    return $feature === 'flush_runtime';
}
// One site, and nothing to close: these have nothing to do.
function wp_cache_add_global_groups($groups) {
}
function wp_cache_switch_to_blog($blog) {
}
function wp_cache_reset() {
}
function wp_cache_close() {
    return true;
}
