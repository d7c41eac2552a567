from bench.execution.last_words import last_words


def test_last_words_are_the_last_lines_and_the_users_own_line():
    crash = (
        "one\ntwo\nthree\nfour\n\nFatal Python error: Aborted\n\nCurrent thread 0x00007f (most recent call first):\n"
        '  File "/usr/site-packages/torch/_ops.py", line 9 in call\n  File "/home/me/mine.py", line 7 in f\n'
        '  File "/home/me/mine.py", line 3 in g\n\nExtension modules: numpy, torch (total: 2)\n'
    )
    assert last_words(crash) == "two three four Fatal Python error: Aborted (mine.py, line 7)"
    assert last_words("all\x1b[31m is\x1b[0m well\n") == "all is well"
    assert last_words("") == ""
