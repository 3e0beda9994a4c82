/// Whose a request is. It decides what the request gives way to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whose {
    /// The person's at the desk: it gives way to others' load, and waits for neither that nor for presence.
    Owner,
    /// Anybody else's.
    #[default]
    Guest,
}

/// Something of each: the owner's, and that of guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Each<T> {
    /// The owner's.
    pub owner: T,
    /// That of guests.
    pub guest: T,
}

impl<T> Each<T> {
    /// Both made by `make`.
    pub fn of(make: impl Fn(Whose) -> T) -> Self {
        Self {
            owner: make(Whose::Owner),
            guest: make(Whose::Guest),
        }
    }

    /// One of them.
    pub fn its(&self, whose: Whose) -> &T {
        match whose {
            Whose::Owner => &self.owner,
            Whose::Guest => &self.guest,
        }
    }

    /// Both with whose they are.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Whose, &mut T)> {
        let Self { owner, guest } = self;
        [(Whose::Owner, owner), (Whose::Guest, guest)].into_iter()
    }
}
