<?php
// The first start of the site: its themes, its tables, its administrator, its cache.
// Done once; the last step is what says so, and then this is not run again.

$content = '/content';
$cache = "$content/object-cache.php";

/** Copies a directory and what is below it over what is there. */
function copy_tree(string $from, string $to): void {
    if (!is_dir($to) && !mkdir($to, 0755, true)) {
        exit(1);
    }
    foreach (array_diff(scandir($from), ['.', '..']) as $name) {
        if (is_dir("$from/$name")) {
            copy_tree("$from/$name", "$to/$name");
        } elseif (!copy("$from/$name", "$to/$name")) {
            exit(1);
        }
    }
}
copy_tree('/var/lib/wordpress/wp-content', $content);

/** Instead of WordPress' own: nobody here takes mail. */
function wp_new_blog_notification() {
}

// WordPress answers a missing database with a page and exit code 0, so look first. Only
// the first start waits for the database here.
mysqli_report(MYSQLI_REPORT_OFF);
$password = trim(file_get_contents('/run/secrets/db-password'));
$deadline = time() + 50;
while (!($database = @mysqli_connect('mariadb', 'wordpress', $password, 'wordpress'))) {
    if (time() > $deadline) {
        fwrite(STDERR, 'the database cannot be reached: ' . mysqli_connect_error() . "\n");
        exit(75);
    }
    usleep(100000);
}
mysqli_close($database);

define('WP_INSTALLING', true);
$_SERVER['REQUEST_URI'] = '/';
require '/usr/share/wordpress/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';
if (!is_blog_installed()) {
    $password = trim(file_get_contents('/run/secrets/admin-password'));
    wp_install(getenv('SITE_TITLE'), getenv('SITE_ADMIN'), 'admin@example.invalid', true, '', $password);
}

copy(__DIR__ . '/object-cache.php', "$cache.new") && rename("$cache.new", $cache) || exit(1);
echo "the site is ready\n";
