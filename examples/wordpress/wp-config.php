<?php
// What /usr/share/wordpress/wp-config.php of Debian asks for. No password is in here: they
// are read from where only this service sees them.
$secret = fn($name) => trim(file_get_contents("/run/secrets/$name"));

define('DB_HOST', 'mariadb');
define('DB_NAME', 'wordpress');
define('DB_USER', 'wordpress');
define('DB_PASSWORD', $secret('db-password'));
define('DB_CHARSET', 'utf8mb4');
define('WP_REDIS_HOST', 'redis');
define('WP_REDIS_PASSWORD', $secret('redis-password'));

$keys = ['AUTH_KEY', 'SECURE_AUTH_KEY', 'LOGGED_IN_KEY', 'NONCE_KEY',
    'AUTH_SALT', 'SECURE_AUTH_SALT', 'LOGGED_IN_SALT', 'NONCE_SALT'];
foreach ($keys as $key) {
    define($key, hash_hmac('sha256', $key, $secret('site-key')));
}

// The demo is found under whatever name it is asked by. A real site writes its own here:
// define('WP_HOME', 'https://www.example.org');
define('WP_HOME', 'https://' . preg_replace('/[^A-Za-z0-9.:\[\]-]/', '', $_SERVER['HTTP_HOST']));
define('WP_SITEURL', WP_HOME);
$_SERVER['HTTPS'] = 'on';

define('DISABLE_WP_CRON', true);            // the service cron does that
define('DISALLOW_FILE_MODS', true);         // the code comes with the root file system
define('WP_HTTP_BLOCK_EXTERNAL', true);
unset($secret, $keys, $key);
