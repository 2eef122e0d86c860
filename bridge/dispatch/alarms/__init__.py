"""What a person should hear of by himself: what is wrong, since when, and whom it was told to.

`rules` judge facts, `looking` notes what begins and ends, `announcing` tells it by webhook and mail, and `meanings` is
what each alarm means and asks for.
"""
